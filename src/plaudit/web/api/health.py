"""For machines that watch the server: is it up, can it serve, what does it do."""

from fastapi import APIRouter, Request
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import JSONResponse, PlainTextResponse, Response

from plaudit.feedback.store.tables import assignment, batch, submission, task
from plaudit.web.api.caller import Manager
from plaudit.web.visit import Site

router = APIRouter(tags=["health"])


@router.get("/healthz")
def alive() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/readyz")
def ready(request: Request) -> Response:
    """The database answers too."""
    site: Site = request.app.state.site
    try:
        with site.project.database.read() as connection:
            connection.execute(select(1))
    except SQLAlchemyError:
        return JSONResponse({"status": "no database"}, 503)
    return JSONResponse({"status": "ready"})


@router.get("/metrics")
def metrics(member: Manager) -> PlainTextResponse:
    """Totals in the text format of Prometheus, for a token with the scope `manage`; nothing about single people."""
    with member.read() as connection:
        by_state = select(assignment.c.state, func.count()).group_by(assignment.c.state)
        states = [(row[0], row[1]) for row in connection.execute(by_state)]
        tasks = connection.execute(
            select(batch.c.purpose, task.c.status, func.count())
            .join(batch, batch.c.id == task.c.batch_id)
            .group_by(batch.c.purpose, task.c.status)
        ).all()
        submissions = connection.execute(select(func.count()).select_from(submission)).scalar_one()
    lines = [
        "# HELP plaudit_submissions_total Submissions, with all revisions.",
        "# TYPE plaudit_submissions_total counter",
        f"plaudit_submissions_total {submissions}",
        "# HELP plaudit_assignments Assignments by state.",
        "# TYPE plaudit_assignments gauge",
        *(f'plaudit_assignments{{state="{state}"}} {count}' for state, count in sorted(states)),
        "# HELP plaudit_tasks Tasks by purpose of their batch and status.",
        "# TYPE plaudit_tasks gauge",
        *(
            f'plaudit_tasks{{purpose="{row.purpose}",status="{row.status}"}} {row[2]}'
            for row in sorted(tasks, key=lambda row: (row.purpose, row.status))
        ),
    ]
    return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")
