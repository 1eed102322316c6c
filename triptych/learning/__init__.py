"""Where the wings meet: company knowledge, patterns across companies, and the loop of feedback.

Everything here reaches the gateway through its HTTP address or through the shapes of
`triptych.wire`; it never imports the inside of `triptych.tiers`.
"""
