"""Addresses, contents and queries of admin pages."""

from __future__ import annotations

import html
import re
from typing import Any

from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.http import urlencode

#: Response of a test client, which has more attributes than its class declares.
Answer = Any


def address(target: Model | type[Model], page: str = "", **query: Any) -> str:
    """Return the address of the list of a model, or of a page of one object."""
    is_list = isinstance(target, type)
    page = page or ("changelist" if is_list else "change")
    name = f"admin:{target._meta.app_label}_{target._meta.model_name}_{page}"
    place = reverse(name, args=[] if is_list else [quote(str(target.pk))])
    return f"{place}?{urlencode(query)}" if query else place


def text(response: Answer) -> str:
    """Return the visible text of the page, without its head and navigation."""
    content = response.content.decode().partition('id="content"')[2].partition("<footer")[0]
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", content)))


def names(response: Answer, field: str) -> list[str]:
    """Return the cells of one column of a list, as text."""
    cells = re.findall(
        rf'<t[hd] class="field-{field}[^"]*">(.*?)</t[hd]>', response.content.decode(), re.DOTALL
    )
    return [re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", cell)).strip() for cell in cells]


def messages(response: Answer) -> list[str]:
    """The messages at the top of the page."""
    found = re.findall(r'<li class="(\w+)">(.*?)</li>', response.content.decode(), re.DOTALL)
    levels = {"success", "warning", "error", "info"}
    return [f"{level}: {html.unescape(message)}" for level, message in found if level in levels]


def statements(client: Client, place: str) -> list[str]:
    """Return the SQL of a page, with all caches of the process filled."""
    client.get(place)
    with CaptureQueriesContext(connection) as captured:
        response = client.get(place)
    assert response.status_code == 200
    return [query["sql"].replace('"', "").replace("`", "") for query in captured.captured_queries]


def logged_in(*codenames: str) -> Client:
    """Return the client of a staff user with these permissions."""
    user = User.objects.create_user(" ".join(codenames) or "nobody", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=codenames, content_type__app_label="django_jobbatch")
    )
    client = Client()
    client.force_login(user)
    return client


def form_values(client: Client, place: str) -> dict[str, str]:
    """Return the values that the unchanged form sends."""
    page = client.get(place).content.decode()
    form = page.partition('class="jb-form"')[2].partition("</form>")[0]
    hidden = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form)
    chosen = re.findall(r'type="radio" name="(\w+)" value="(\w+)"[^>]* checked', form)
    return {name: html.unescape(value) for name, value in hidden + chosen}


def confirm(client: Client, place: str, **answer: Any) -> Answer:
    """Get the confirmation page and confirm the action."""
    return client.post(place, form_values(client, place) | answer, follow=True)
