"""Knowledge: a company's admin goes from a folder of files to a cited answer, and sees no other."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import fits, screenshot
from document_files import docx_file

from triptych.errors import InvalidQuery
from triptych.panels.console.knowledge.uploads import safe_name

HOME = "/console/knowledge"
ATTACK = "<script>alert(1)</script><img src=x onerror=alert(1)>"
LEAVE = "# Time off\n\n## Paid leave\n\nEvery employee has 25 days of paid leave a year.\n"


def boss_of(gateway: Any, company: str) -> str:
    gateway.call("POST", "/admin/companies", {"company_id": company, "name": company.title()})
    made = {"name": f"boss of {company}", "role": "company_admin", "company_id": company}
    return str(gateway.call("POST", "/api/keys", made)["key"])


def upload(reader: Any, company: str, **files: str) -> Any:
    """Send files by name; `leave_md` is `leave.md`."""
    sent = [
        ("files", (name.replace("_", "."), text.encode(), "text/plain"))
        for name, text in files.items()
    ]
    return reader.client.post(
        f"{HOME}/{company}/upload", data={"csrf": reader._csrf}, files=sent,
        headers={"hx-request": "true"},
    )  # fmt: skip


def applied(reader: Any, company: str) -> str:
    """Apply the changes of the uploads and return the page once they answer."""
    reader.post(f"{HOME}/{company}/apply", source="uploads", by_htmx=True)
    for _ in range(600):
        text = reader.text(f"{HOME}/{company}")
        if "answers now" in text:
            return text
        time.sleep(0.05)
    raise AssertionError("the sync did not end")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("leave.md", "leave.md"),
        ("handbook/time off/leave.md", "handbook/time off/leave.md"),
        ("../../etc/passwd", "etc/passwd"),
        ("C:\\temp\\a.docx", "C:/temp/a.docx"),
        ("/absolute/a.txt", "absolute/a.txt"),
        (f"{'x' * 300}.pdf", f"{'x' * 117}.pdf"),
        ("a\n\0b.txt", "ab.txt"),
    ],
)
def test_an_uploaded_name_stays_below_the_folder(sent: str, kept: str) -> None:
    assert safe_name(sent) == kept


@pytest.mark.parametrize("sent", ["", "..", ".hidden", "/", "a/" * 20 + "b.md"])
def test_a_name_that_is_no_file_name_is_refused(sent: str) -> None:
    with pytest.raises(InvalidQuery):
        safe_name(sent)


def test_uploads_are_compared_before_they_are_applied_then_cited(
    gateway: Any, sign_in: Any
) -> None:
    boss = sign_in(boss_of(gateway, "acme"))
    shown = upload(
        boss, "acme", leave_md=LEAVE, picture_png="no picture", attack_md=f"# A\n\n{ATTACK}"
    )
    assert "New (3)" in shown.text and "leave.md" in shown.text
    assert "No documents yet" in boss.text(f"{HOME}/acme/try")
    text = applied(boss, "acme")
    assert "Version 1 answers now: 3 new" in text
    row = text[text.index("uploads/picture.png") :]
    assert "not read" in row[:300]
    answer = boss.post(f"{HOME}/acme/try", question="How many days of paid leave?", by_htmx=True)
    assert "25 days of paid leave" in answer.text and "Sources" in answer.text
    href = re.search(r'href="(/console/knowledge/acme/documents/[^"#]+)#words"', answer.text)
    assert href is not None
    document = boss.text(href[1].replace("&amp;", "&"))
    assert '<mark id="words" tabindex="-1">Every employee has 25 days' in document
    refused = boss.post(f"{HOME}/acme/try", question="Who is the king of Norway?", by_htmx=True)
    assert "Not in the documents" in refused.text
    again = upload(boss, "acme", leave_md=LEAVE.replace("25", "30"))
    assert "Changed (1)" in again.text and "2 unchanged" in again.text
    drawn = boss.post(f"{HOME}/acme/try", question="alert script img", by_htmx=True).text
    assert "<script>alert" not in drawn + text and "<img src=x" not in drawn + text


def test_a_companys_admin_reaches_no_other_company(gateway: Any, sign_in: Any) -> None:
    boss, other = (sign_in(boss_of(gateway, name)) for name in ("initech", "globex"))
    upload(boss, "initech", leave_md=LEAVE)
    applied(boss, "initech")
    assert other.get(f"{HOME}/globex").status_code == 200
    for path in ("", "/try", "/questions", "/rights", "/delete", "/documents/1"):
        assert other.get(f"{HOME}/initech{path}").status_code == 404, path
    for path in ("/apply", "/compare", "/try", "/questions", "/questions/evaluate", "/delete",
                 "/rights/source", "/rights/member"):  # fmt: skip
        sent = {"source": "uploads", "question": "leave", "user": "x", "name": "leave.md"}
        assert other.post(f"{HOME}/initech{path}", **sent).status_code == 404, path
    assert upload(other, "initech", leave_md="taken over").status_code == 404
    assert other.post(f"{HOME}/globex/sources", folder="/etc").status_code == 403
    assert "Initech" not in other.text(f"{HOME}/globex")
    assert "25 days" in boss.post(f"{HOME}/initech/try", question="How many days of leave?").text


def test_a_document_is_deleted_for_good_after_it_was_said_what_goes(
    gateway: Any, sign_in: Any
) -> None:
    boss = sign_in(boss_of(gateway, "hooli"))
    upload(boss, "hooli", leave_md=LEAVE, other_md="# Other\n\nThe office closes at six.")
    applied(boss, "hooli")
    asked = {"question": "How many days of leave?", "document": "leave.md", "words": "25 days"}
    assert "Question added" in boss.post(f"{HOME}/hooli/questions", by_htmx=True, **asked).text
    assert "<b>1 of 1</b>" in boss.post(f"{HOME}/hooli/questions/evaluate", by_htmx=True).text
    said = boss.text(f"{HOME}/hooli/delete?source=uploads&name=leave.md")
    assert "1 test questions that name it" in said and "the uploaded file" in said
    boss.post(f"{HOME}/hooli/delete", source="uploads", name="leave.md")
    folder = Path(gateway.home) / "companies" / "hooli"
    left = [
        path for path in folder.rglob("*") if path.is_file() and b"25 days" in path.read_bytes()
    ]
    assert left == []
    assert "other.md" in boss.text(f"{HOME}/hooli")
    boss.post(f"{HOME}/hooli/delete", source="", name="")
    assert not folder.exists() and "No documents yet" in boss.text(f"{HOME}/hooli")


def test_rights_act_on_the_next_question(gateway: Any, admin: Any, sign_in: Any) -> None:
    boss = sign_in(boss_of(gateway, "umbrella"))
    gateway.call("POST", "/admin/users", {"user_id": "una", "companies": ["umbrella"]})
    upload(boss, "umbrella", leave_md=LEAVE)
    applied(boss, "umbrella")
    asked = {"question": "How many days of paid leave?", "user": "una", "by_htmx": True}
    assert "25 days" in boss.post(f"{HOME}/umbrella/try", **asked).text
    boss.post(f"{HOME}/umbrella/rights/source", source="uploads", groups="board")
    refused = boss.post(f"{HOME}/umbrella/try", **asked).text
    assert "25 days" not in refused and "may not read any" in refused
    saved = boss.post(f"{HOME}/umbrella/rights/member", user="una", groups="board", by_htmx=True)
    assert "Groups of una saved" in saved.text
    assert "25 days" in boss.post(f"{HOME}/umbrella/try", **asked).text


def test_an_upload_that_is_too_large_is_refused_before_it_is_read(
    gateway: Any, sign_in: Any
) -> None:
    boss = sign_in(boss_of(gateway, "acme"))
    answer = boss.client.post(
        f"{HOME}/acme/upload", content=b"x", headers={"content-type": "multipart/form-data; "
        "boundary=b", "content-length": str(10**12)},
    )  # fmt: skip
    assert answer.status_code == 413 and "too large" in answer.text


@pytest.mark.browser
@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (360, "dark")])
def test_a_companys_admin_goes_from_a_folder_of_mixed_files_to_a_cited_answer(
    gateway: Any, open_console: Callable[..., Any], tmp_path: Path, width: int, theme: str
) -> None:
    company = f"story{width}"
    key = boss_of(gateway, company)
    folder = tmp_path / "handbook"
    (folder / "people").mkdir(parents=True)
    (folder / "people" / "leave.md").write_text(LEAVE)
    docx_file(folder / "expenses.docx")
    (folder / "office.txt").write_text("The office opens at eight and closes at six.")
    (folder / "table.csv").write_text("role,notice\nengineer,three months\n")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 broken")
    page = open_console("/console/", width=width, height=800, color_scheme=theme)
    page.get_by_role("button", name="Sign out").click()
    page.goto(f"{page.url.split('/', 3)[0]}//{page.url.split('/')[2]}/sign-in?then={HOME}")
    page.get_by_label("Your key").fill(key)
    page.get_by_role("button", name="Sign in").press("Enter")
    page.get_by_role("heading", name=f"Knowledge of {company.title()}").wait_for()
    page.get_by_label("Or a whole folder").set_input_files(str(folder))
    page.get_by_role("button", name="Upload and show the changes").press("Enter")
    page.get_by_role("heading", name="Changes in uploads").wait_for()
    assert page.get_by_role("heading", name="New (5)").is_visible()
    fits(page)
    page.get_by_role("button", name="Apply the changes").press("Enter")
    page.get_by_text("answers now").wait_for()
    assert (
        page.locator("tr", has_text="broken.pdf").get_by_text("not read", exact=True).is_visible()
    )
    fits(page)
    screenshot(page, f"console-knowledge-{width}-{theme}")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.get_by_role("link", name="Try a question").press("Enter")
    page.get_by_label("Question").fill("How many days of paid leave do we have?")
    page.get_by_label("Question").press("Enter")
    page.get_by_role("heading", name="Answer", exact=True).wait_for()
    fits(page)
    screenshot(page, f"console-knowledge-try-{width}-{theme}")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.locator(".answer a").first.press("Enter")
    words = page.locator("mark#words")
    words.wait_for()
    assert words.inner_text() == "Every employee has 25 days of paid leave a year."
    fits(page)
    for tab in ("Test questions", "Who may read"):
        tabs = page.get_by_role("navigation", name="Knowledge")
        tabs.get_by_role("link", name=tab).press("Enter")
        page.wait_for_function(f"document.title.startsWith('{tab}')")
        fits(page)
        found = Axe().run(page)
        assert found.violations_count == 0, f"{tab}: {found.generate_report()}"
