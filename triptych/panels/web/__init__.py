"""The toolkit of every page that is not a Space: routes, templates, forms, charts, live fragments.

A page is three small things: a router (`Pages`), a view model (a frozen dataclass) and a template
beside them. Pages have no inline script and no inline style: a strict content security policy
blocks both. Every form carries a CSRF token, which `Pages.post` verifies before the handler runs.

A worked example, a page that lists budgets and sets one::

    # triptych/panels/console/budgets/routes.py
    class SetBudget(BaseModel):                          # what the form means, with its limits
        company: str = Field(min_length=1)
        usd: float | None = Field(default=None, ge=0)    # an empty field is None

    FORM = FormSpec(SetBudget, (
        Field("company", "Company", choices=()),         # a pick list; choices are set per visit
        Field("usd", "US dollars a month", kind="number", hint="Empty: no limit"),
    ))

    def routes(site: Site) -> list[Route]:
        pages = Pages(site)

        @pages.get("/console/budgets", role="company_admin")
        async def show(visit: Visit) -> Response:
            return await answer(visit, FORM.empty())

        @pages.post("/console/budgets", role="company_admin")
        async def save(visit: Visit) -> Response:        # CSRF is verified already
            form = FORM.read(visit.form)
            if form.value is not None:
                try:
                    await visit.gateway.ask("POST", "/admin/budgets", form.value.model_dump())
                    form = FORM.empty(status="Budget saved")
                except TierError as error:               # beside the field that it names
                    form = form.refused(error)
            return await answer(visit, form)

        async def answer(visit: Visit, form: Form) -> Response:
            rows = (await visit.gateway.ask("GET", "/api/budgets"))["budgets"]
            table = Table("Budgets", ("Company", "Limit"), tuple(
                Row((row["company_id"], row["usd"]), href=f"/console/budgets/{row['id']}")
                for row in rows))
            # htmx receives the block `budgets` only; without scripts the whole page comes
            return visit.page("console/budgets/page.html", fragment="budgets",
                              status=form.http_status, form=form, table=table)

        return pages.routes

    {# triptych/panels/console/budgets/page.html #}
    {% extends "web/templates/base.html" %}
    {% block title %}Budgets{% endblock %}
    {% block content %}<h1>Budgets</h1>{% block budgets %}
    <section id="budgets">
      {{ parts.table(table) }}
      {{ parts.form(form, action="/console/budgets", target="#budgets", submit="Set budget") }}
    </section>{% endblock %}{% endblock %}

The rest: `Chart` with `parts.chart(chart)` (values on hover, log axis, smoothing, CSV, PNG),
`live.fragments` with `parts.live(url)` (server-sent events that replace a fragment),
`parts.term("perplexity")` (a glossary term), `parts.status(text)` and `parts.trouble(error)`.
Left out: what any page is about.
"""
