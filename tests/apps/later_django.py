"""
A Django app whose batches are carried out later; it takes no part in lifespan.
"""

from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, JsonResponse
from django.urls import path

from apps.later import GREETING, SETTINGS, is_met, shown, take_a_moment
from asgi_batch import BatchMiddleware


def greeting(request: Any) -> HttpResponse:
    return JsonResponse({"app": "django" if apps.ready else None, "greeting": GREETING})


def echo(request: Any) -> HttpResponse:
    return JsonResponse(shown(request.scope, request.body))


async def moment(request: Any) -> HttpResponse:
    return JsonResponse(await take_a_moment())


async def flaky(request: Any, name: str) -> HttpResponse:
    return JsonResponse({"name": name}, status=200 if is_met(name) else 503)


async def crash(request: Any) -> HttpResponse:
    raise RuntimeError("This endpoint always crashes.")


urlpatterns = [
    path("greeting", greeting),
    path("echo", echo),
    path("moment", moment),
    path("flaky/<name>", flaky),
    path("crash", crash),
]
settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
)
app = BatchMiddleware(get_asgi_application(), **SETTINGS)
