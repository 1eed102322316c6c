"""The loop: judgements become a data set, a data set a candidate, and a better candidate is served.

`statistics` decides, `gate` compares a candidate with what is served before any user sees it,
`rollout` gives it a growing share of the traffic. Left out: training (`lm`) and the flags and
records of the gateway, which are reached over HTTP.
"""
