"""The Playground: several models on one prompt, side by side, as they write.

People judge a model by trying it. The page shows what each model writes and how fast, how
surprised each is by the prompt, and how a checkpoint got better with age.
"""
