"""Addresses of admin pages, what a user gets there, and what that costs."""

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

#: What a test client returns: a response with more to it than its class knows.
Answer = Any


def address(target: Model | type[Model], page: str = "", **query: Any) -> str:
    """The list of a model, or a page of one object: `change` if nothing else is named."""
    is_list = isinstance(target, type)
    page = page or ("changelist" if is_list else "change")
    name = f"admin:{target._meta.app_label}_{target._meta.model_name}_{page}"
    place = reverse(name, args=[] if is_list else [quote(str(target.pk))])
    return f"{place}?{urlencode(query)}" if query else place


def text(response: Answer) -> str:
    """What people read on the page, without its head and navigation."""
    content = response.content.decode().partition('id="content"')[2].partition("<footer")[0]
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", content)))


def names(response: Answer, field: str) -> list[str]:
    """The cells of one column of a list, as text."""
    cells = re.findall(
        rf'<t[hd] class="field-{field}[^"]*">(.*?)</t[hd]>', response.content.decode(), re.DOTALL
    )
    return [re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", cell)).strip() for cell in cells]


def messages(response: Answer) -> list[str]:
    """What the user is told at the top of the page."""
    found = re.findall(r'<li class="(\w+)">(.*?)</li>', response.content.decode(), re.DOTALL)
    levels = {"success", "warning", "error", "info"}
    return [f"{level}: {html.unescape(said)}" for level, said in found if level in levels]


def statements(client: Client, place: str) -> list[str]:
    """The SQL that a page takes, once what every process remembers is there."""
    client.get(place)
    with CaptureQueriesContext(connection) as captured:
        response = client.get(place)
    assert response.status_code == 200
    return [query["sql"].replace('"', "").replace("`", "") for query in captured.captured_queries]


def logged_in(*codenames: str) -> Client:
    """The client of somebody of the staff with these permissions."""
    user = User.objects.create_user(" ".join(codenames) or "nobody", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=codenames, content_type__app_label="django_jobbatch")
    )
    client = Client()
    client.force_login(user)
    return client
