"""Words that people at work use for one another; the question's own words count more.

A closed list of everyday words of a workplace, by stem. It holds no company's words. Left out:
synonyms that a company uses alone.
"""

from __future__ import annotations

from functools import cache

from triptych.learning.company.words import stem

# How much a synonym counts beside the word itself; tuned on two handbooks, see docs/log.md.
SHARE = 0.75
_GROUPS = """
vacation holiday leave pto
sick ill illness
pay salary wage compensation
pay cost expense reimburse cover
money budget dollars amount stipend allowance
course class training education learning
boss manager supervisor lead
baby child newborn parent birth
kid child children dependent
maternity paternity parental
insurance coverage plan
health medical healthcare
company firm employer organisation organization
colleague coworker teammate
employee staff member
hire recruit candidate applicant
recommend refer referral
bonus reward
start begin
end finish stop
quit leave resign
announce notify notice inform
mail email inbox
phone telephone call mobile
computer laptop device
tool app application software
video zoom meet conference
talk speak presentation speech
call meeting
chat slack
book schedule reserve
trip travel flight
hotel accommodation lodging
taxi cab
receipt invoice
approve approval permission authorise authorize allowed
death died bereavement
grandmother grandparent
jury court
break sabbatical
remote home
office workplace building
drink alcohol beer wine
rule policy guideline
fix repair resolve remediate
error bug defect failure
password credential secret login
hide protect secure
delete remove erase
keep store retain retention
log record
test testing qa
repository repo
publish release
document documentation docs
person people
weekly week
yearly annual year
daily day
monthly month
each every per
maximum most limit up
minimum least
number amount
captions subtitles captioning
write document
archive retire unused
change edit update modify correct
wrong incorrect error
help support assist
hours time
nurse health clinic
breakfast lunch meal food
clothes dress wear suit
join attend participate participant
come attend
first 1st
second 2nd
two 2
three 3
half 50
"""


@cache
def _table() -> dict[str, frozenset[str]]:
    table: dict[str, set[str]] = {}
    for line in _GROUPS.splitlines():
        group = line.split()
        for word in group:
            table.setdefault(stem(word), set()).update(one for one in group if one != word)
    return {word: frozenset(others) for word, others in table.items()}


def synonyms(word: str) -> frozenset[str]:
    """Return other words for a word; none where the list has none."""
    return _table().get(stem(word), frozenset())
