"""What similar companies do, from those that agreed, without a word of any single one.

A company's passages -> `extraction` (rules over a closed `vocabulary`) -> one vote a practice ->
`register` (who agreed, in which cohort) -> `counting` (support, at least k) -> `cards` by template
-> `gates` -> `audit` -> `releases`. `answering` answers from the cards' counts. No model reads a
company's text here and no sentence of it is ever published. Left out: documents and passages
(`learning.company`), and the gateway, whose consent is read over HTTP.
"""
