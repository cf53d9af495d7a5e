"""Saying who one is: a page with a form, and the way out.

It needs no script, and is all that somebody sees who has no token. What a token opens is in
`access.py`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markupsafe import Markup

from inventory_migration import logs
from inventory_migration.dashboard.access import SESSION_SECONDS, Access
from inventory_migration.dashboard.guard import (
    ADDRESS,
    LOGIN,
    VIEWER,
    cookie_name,
    is_encrypted,
    is_own_path,
)
from inventory_migration.dashboard.policy import FORM, POLICY

if TYPE_CHECKING:
    from fastapi import FastAPI

logger = logging.getLogger(__name__)

LOGOUT = "/logout"
_LONGEST = 8192
"""Bytes of a form; nobody needs more to log in."""


def register(application: FastAPI, access: Access, *, port: int) -> None:
    """Make the ways in and out known to the server."""
    cookie = cookie_name(port)

    @application.get(LOGIN)
    async def ask(request: Request) -> Response:
        if request.scope[VIEWER] is not None:
            return RedirectResponse("/", 303)
        return _page(access, wanted=request.query_params.get("next", ""))

    @application.post(LOGIN)
    async def log_in(request: Request) -> Response:
        address = request.scope[ADDRESS]
        form = await _form(request)
        wanted, name = form.get("next", ""), form.get("name", "")
        wait = access.wait_seconds(address)
        if wait:
            problem = f"Too many wrong tokens came from your address. Try again in {wait} seconds."
            return _page(access, wanted=wanted, name=name, problem=problem, wait=wait)
        made = access.log_in(form.get("token", ""), name, address)
        if made is None:
            logger.warning("the dashboard was given a wrong token from %s", logs.plain(address))
            problem = "That is no token of this dashboard."
            return _page(access, wanted=wanted, name=name, problem=problem)
        viewer = access.viewer(address, made)
        logger.info("%s has logged in to the dashboard", viewer.described if viewer else "?")
        answer = RedirectResponse(wanted if is_own_path(wanted) else "/", 303)
        answer.set_cookie(
            cookie,
            made,
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="strict",
            secure=is_encrypted(request.scope),
        )
        return answer

    @application.post(LOGOUT)
    async def log_out(request: Request) -> Response:
        access.log_out(request.scope[VIEWER])
        answer = RedirectResponse(LOGIN if access.asks else "/", 303)
        answer.delete_cookie(cookie, httponly=True, samesite="strict")
        return answer


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form, each as it was given first; none where it is too long."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST:
            return {}
    fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    return {name: values[0] for name, values in fields.items()}


def _page(
    access: Access, *, wanted: str = "", name: str = "", problem: str = "", wait: int = 0
) -> Response:
    unnamed = any(token.name is None for token in access.tokens)
    answer = HTMLResponse(
        _PAGE.format(
            problem=_PROBLEM.format(problem) if problem else "",
            name=_NAME.format(name) if unnamed else "",
            wanted=wanted if is_own_path(wanted) else "",
            described=Markup(' aria-describedby="problem"') if problem else "",
        ),
        status_code=429 if wait else 401 if problem else 200,
    )
    answer.headers[POLICY] = FORM
    if wait:
        answer.headers["retry-after"] = str(wait)
    return answer


_PROBLEM = Markup('<p id="problem" role="alert">{}</p>')

_NAME = Markup("""
<label for="name">Your name, for the trail</label>
<input id="name" name="name" maxlength="40" autocomplete="username" value="{}">""")

_PAGE = Markup("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Log in – inventory-migration</title>
<style>
  :root {{ color-scheme: light dark; --ink: #1b1f24; --card: #fff; --paper: #f4f5f7;
           --edge: #868f99; --link: #0a57a8; --strong: #17456f; --on-strong: #fff;
           --bad: #a51722 }}
  @media (prefers-color-scheme: dark) {{ :root {{ --ink: #e4e7eb; --card: #181c21;
           --paper: #101317; --edge: #76808c; --link: #79b4f2; --strong: #9cc7f5;
           --on-strong: #0d1b2a; --bad: #ff9aa0 }} }}
  body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1rem;
          box-sizing: border-box; background: var(--paper); color: var(--ink);
          font: 1rem/1.5 system-ui, sans-serif }}
  main {{ width: min(24rem, 100%); background: var(--card); padding: 2rem;
          box-sizing: border-box; border-radius: .75rem;
          box-shadow: 0 1px 3px rgb(0 0 0 / .2) }}
  h1 {{ margin: 0 0 .25rem; font-size: 1.3rem }}
  p {{ margin: 0 0 1rem }}
  label {{ display: block; margin: 1rem 0 .25rem; font-weight: 600 }}
  input, button {{ width: 100%; box-sizing: border-box; font: inherit; padding: .6rem .75rem;
          border-radius: .4rem; border: 1px solid var(--edge); color: inherit;
          background: transparent }}
  button {{ margin-top: 1.5rem; background: var(--strong); color: var(--on-strong); border: 0;
          font-weight: 600; cursor: pointer }}
  :focus-visible {{ outline: 3px solid var(--link); outline-offset: 2px }}
  #problem {{ color: var(--bad); font-weight: 600; margin-top: 1rem }}
</style>
</head>
<body>
<main>
<h1>inventory-migration</h1>
<p>Say who you are to see the migrations.</p>
{problem}
<form method="post" action="/login">{name}
<label for="token">Token</label>
<input id="token" name="token" type="password" required autofocus
       autocomplete="current-password"{described}>
<input type="hidden" name="next" value="{wanted}">
<button>Log in</button>
</form>
</main>
</body>
</html>
""")
