"""The labeling site of one project."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import jinja2
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.staticfiles import StaticFiles

from plaudit.feedback.project import Project
from plaudit.feedback.statistics import StatisticsCache
from plaudit.web import figures, moments, problems, text
from plaudit.web.api import health, v1
from plaudit.web.demo import Door
from plaudit.web.pages import (
    admin_batches,
    admin_bias,
    admin_choose,
    admin_content,
    admin_erasure,
    admin_gold,
    admin_guidelines,
    admin_import,
    admin_lineage,
    admin_log,
    admin_members,
    admin_overview,
    admin_quality,
    admin_settings,
    admin_snapshots,
    group_questions,
    guidelines,
    history,
    home,
    own_data,
    profile,
    review,
    sign_in,
    training,
    work,
)
from plaudit.web.security import Guard
from plaudit.web.visit import Site

FOLDER: Final = Path(__file__).parent
ADMIN_PAGES: Final = (
    review,
    admin_overview,
    admin_batches,
    admin_choose,
    admin_guidelines,
    admin_gold,
    admin_members,
    admin_erasure,
    admin_quality,
    admin_bias,
    admin_content,
    admin_import,
    admin_snapshots,
    admin_lineage,
    admin_log,
    admin_settings,
)
PAGES: Final = (sign_in, home, guidelines, training, work, history, profile, group_questions, own_data, *ADMIN_PAGES)
API: Final = (v1, health)


def create_app(
    project: Project,
    *,
    https: bool = False,
    hosts: frozenset[str] | None = None,
    doors: Mapping[str, Door] = MappingProxyType({}),
) -> FastAPI:
    """The site as an ASGI application.

    https: whether browsers reach it over HTTPS; sets the kind of session cookie.
    hosts: host names it answers to; any if None.
    doors: links that sign in without a password, for a demo.
    """
    app = FastAPI(
        title=f"Plaudit: {project.name}",
        version="1",
        # The interactive pages of FastAPI load scripts from elsewhere; the schema itself is enough.
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        middleware=[Middleware(Guard, problem=problems.problem, hosts=hosts, https=https)],
    )
    app.state.site = Site(project, templates(), https, doors)
    app.state.statistics = StatisticsCache()
    problems.install(app)
    app.mount("/static", StaticFiles(directory=FOLDER / "static"), name="static")
    for module in API:  # first, because routes are tried in this order, and scripts ask far more often than people
        app.include_router(module.router)
    for module in PAGES:
        app.include_router(module.router, include_in_schema=False)
    return app


def templates() -> jinja2.Environment:
    """The templates. A name that is not given is an error, not an empty place on the page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(text.FILTERS)
    environment.filters.update(moments.FILTERS)
    environment.filters.update(figures.FILTERS)
    return environment
