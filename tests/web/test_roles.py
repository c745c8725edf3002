"""Who may call what: the whole table of routes against all roles. A route that is not listed here fails a test."""

import re

import pytest
from fastapi.routing import APIRoute
from sites import ORIGIN, ROLES, Site

from plaudit.web.api.caller import Caller
from plaudit.web.app import API, PAGES
from plaudit.web.security import HEADERS, SAFE_METHODS
from plaudit.web.visit import AtLeast

EXPECTED = {
    "GET /sign-in": "anybody",
    "POST /sign-in": "anybody",
    "POST /sign-out": "anybody",
    "GET /invite/{token}": "anybody",
    "POST /invite/{token}": "anybody",
    "GET /enter/{token}": "anybody",
    "POST /enter/{token}": "anybody",
    "GET /healthz": "anybody",
    "GET /readyz": "anybody",
    "GET /": "labeler",
    "GET /guidelines": "labeler",
    "GET /training/{assignment_id}": "labeler",
    "GET /qualification": "labeler",
    "POST /work/claim": "labeler",
    "GET /work/{assignment_id}": "labeler",
    "POST /work/{assignment_id}": "labeler",
    "GET /history": "labeler",
    "POST /history/{submission_id}/undo": "labeler",
    "GET /profile": "labeler",
    "GET /profile/data": "labeler",
    "GET /profile/groups": "labeler",
    "POST /profile/groups": "labeler",
    "POST /profile/preferences": "labeler",
    "POST /profile/password": "labeler",
    "POST /profile/sessions/{handle}/end": "labeler",
    "POST /profile/tokens": "labeler",
    "POST /profile/tokens/{token_id}/revoke": "labeler",
    "GET /review": "reviewer",
    "GET /review/{task_id}": "reviewer",
    "POST /review/{task_id}": "reviewer",
    "POST /review/{task_id}/reopen": "reviewer",
    "POST /review/submissions/{submission_id}/void": "reviewer",
    "POST /review/submissions/{submission_id}/restore": "reviewer",
    "GET /admin": "admin",
    "GET /admin/batches": "admin",
    "GET /admin/batches/new": "admin",
    "POST /admin/batches/new": "admin",
    "GET /admin/batches/{batch_id}": "admin",
    "GET /admin/batches/choose/{batch_id}": "admin",
    "POST /admin/batches/choose/{batch_id}": "admin",
    "POST /admin/batches/{batch_id}/status": "admin",
    "POST /admin/batches/{batch_id}/rules": "admin",
    "POST /admin/batches/{batch_id}/tasks": "admin",
    "GET /admin/members": "admin",
    "POST /admin/members/invites": "admin",
    "POST /admin/members/invites/{invite_id}/cancel": "admin",
    "GET /admin/members/{member_id}": "admin",
    "POST /admin/members/{member_id}/role": "admin",
    "POST /admin/members/{member_id}/state": "admin",
    "GET /admin/guidelines": "admin",
    "POST /admin/guidelines": "admin",
    "POST /admin/guidelines/publish": "admin",
    "GET /admin/gold": "admin",
    "GET /admin/gold/{task_id}": "admin",
    "POST /admin/gold/{task_id}": "admin",
    "POST /admin/gold/{task_id}/retire": "admin",
    "GET /admin/members/{member_id}/erase": "admin",
    "POST /admin/members/{member_id}/erase": "admin",
    "GET /admin/content": "admin",
    "GET /admin/content/{prompt_id}": "admin",
    "POST /admin/content/{prompt_id}/status": "admin",
    "GET /admin/import": "admin",
    "POST /admin/import": "admin",
    "POST /admin/import/{token}": "admin",
    "GET /admin/log": "admin",
    "GET /admin/settings": "admin",
    "POST /admin/settings": "admin",
    "GET /admin/quality": "admin",
    "GET /admin/bias": "admin",
    "POST /admin/bias/scores": "admin",
    "GET /admin/snapshots": "admin",
    "GET /admin/snapshots/new": "admin",
    "POST /admin/snapshots/new": "admin",
    "GET /admin/snapshots/{snapshot_id}": "admin",
    "GET /admin/snapshots/{snapshot_id}/file": "admin",
    "GET /admin/lineage": "admin",
    "GET /metrics": "manage",
    "GET /api/v1/me": "work",
    "GET /api/v1/history": "work",
    "POST /api/v1/claims": "work",
    "GET /api/v1/assignments/{assignment_id}": "work",
    "POST /api/v1/assignments/{assignment_id}/draft": "work",
    "POST /api/v1/assignments/{assignment_id}/submit": "work",
    "POST /api/v1/assignments/{assignment_id}/heartbeat": "work",
    "POST /api/v1/assignments/{assignment_id}/skip": "work",
    "POST /api/v1/assignments/{assignment_id}/release": "work",
    "POST /api/v1/submissions/{submission_id}/undo": "work",
}
LOWEST = {"work": "labeler", "review": "reviewer", "manage": "admin"}  # role that has the scope


def routes() -> dict[str, APIRoute]:
    found = {}
    for module in (*PAGES, *API):
        for route in module.router.routes:
            assert isinstance(route, APIRoute)
            for method in route.methods:
                found[f"{method} {route.path}"] = route
    return found


def guard_of(route: APIRoute) -> str:
    """The role or scope that the route's own dependencies ask for."""
    calls = [dependency.call for dependency in route.dependant.dependencies]
    roles = [call.role for call in calls if isinstance(call, AtLeast)]
    scopes = [call.scope for call in calls if isinstance(call, Caller)]
    return next(iter([*roles, *scopes]), "anybody")


@pytest.mark.parametrize("name", sorted(routes()))
def test_every_route_asks_for_the_role_that_is_listed(name):
    assert name in EXPECTED, f"list {name} in EXPECTED with the role it needs"
    assert guard_of(routes()[name]) == EXPECTED[name]


def test_the_list_names_no_route_that_is_gone():
    assert set(EXPECTED) == set(routes())


def address(path: str) -> str:
    return re.sub(r"{\w+}", "0" * 32, path)


def test_roles_see_what_is_theirs_and_nothing_else(site: Site):
    for role in (None, *ROLES):
        client = site.client(role)
        for name, needed in EXPECTED.items():
            if name == "POST /sign-out":  # it would end the session of this test
                continue
            method, path = name.split(" ")
            answer = client.request(method, address(path))
            where = f"{name} as {role}: {answer.status_code}"
            for header, value in HEADERS.items():
                assert answer.headers[header] == value, where
            lowest = LOWEST.get(needed, needed)
            if needed == "anybody":
                assert answer.status_code != 401 or "password" in answer.text, where
            elif role is None:
                redirected = answer.headers.get("location", "").startswith("/sign-in?next=")
                assert redirected if method == "GET" and needed in ROLES else answer.status_code == 401, where
            elif ROLES.index(role) < ROLES.index(lowest):
                assert answer.status_code == (404 if needed in ROLES else 403), where
            else:
                assert answer.status_code not in (401, 403, 500), where


def test_posts_from_other_sites_are_refused(site: Site):
    client = site.client("owner")
    client.headers.pop("Sec-Fetch-Site")
    foreign = ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://evil.example"}, {})
    for name in EXPECTED:
        method, path = name.split(" ")
        if method in SAFE_METHODS:
            continue
        for headers in foreign:
            assert client.request(method, address(path), headers=headers).status_code == 403, f"{name} {headers}"
        assert client.request(method, address(path), headers={"Origin": ORIGIN}).status_code != 403, name
        client.cookies.set(site.cookie, site.session("owner"))  # signing out is one of them


def test_reading_never_writes(site: Site):
    """No GET route changes anything, so links and prefetching are harmless."""
    client = site.client("owner")
    with site.project.database.read() as connection:
        before = connection.exec_driver_sql("PRAGMA data_version").scalar(), total_changes(connection)
    for name in EXPECTED:
        method, path = name.split(" ")
        if method == "GET":
            client.get(address(path))
    with site.project.database.read() as connection:
        assert (connection.exec_driver_sql("PRAGMA data_version").scalar(), total_changes(connection)) == before


def total_changes(connection) -> int:
    return connection.connection.driver_connection.total_changes
