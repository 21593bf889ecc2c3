"""
A small Django project in one file, with a batch endpoint.

Run it with ``uvicorn examples.django_app:app`` or ``python examples/django_app.py``.
"""

import json
import os
from http import HTTPStatus
from itertools import count

import uvicorn
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views import View

from asgi_batch import BatchMiddleware

settings.configure(ALLOWED_HOSTS=["localhost", "127.0.0.1"], ROOT_URLCONF=__name__)

users = {1: "Ada", 2: "Grace", 3: "Edsger"}
new_ids = count(4)


class InvalidUser(Exception):
    """
    Raised when a request body does not describe a user.
    """


def read_name(request: HttpRequest) -> str:
    try:
        body = json.loads(request.body)
    except ValueError:
        body = None
    name = body.get("name") if isinstance(body, dict) else None
    if not isinstance(name, str) or not name:
        raise InvalidUser
    return name


def check_known(user_id: int) -> None:
    if user_id not in users:
        raise Http404


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("Hello!", content_type="text/plain; charset=utf-8")


def crash(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("This endpoint always crashes.")


class JSONView(View):
    def dispatch(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        try:
            return super().dispatch(request, *args, **kwargs)
        except InvalidUser:
            return JsonResponse({"detail": "A user needs a name."}, status=422)


class UsersView(JSONView):
    def post(self, request: HttpRequest) -> HttpResponse:
        name = read_name(request)
        user_id = next(new_ids)
        users[user_id] = name
        location = {"location": f"/users/{user_id}"}
        return JsonResponse({"id": user_id, "name": name}, status=201, headers=location)


class UserView(JSONView):
    def get(self, request: HttpRequest, user_id: int) -> HttpResponse:
        check_known(user_id)
        return JsonResponse({"id": user_id, "name": users[user_id]})

    def put(self, request: HttpRequest, user_id: int) -> HttpResponse:
        check_known(user_id)
        users[user_id] = read_name(request)
        return JsonResponse({"id": user_id, "name": users[user_id]})

    def delete(self, request: HttpRequest, user_id: int) -> HttpResponse:
        check_known(user_id)
        del users[user_id]
        response = HttpResponse(status=204)
        del response["content-type"]
        return response


def on_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return JsonResponse({"detail": HTTPStatus.NOT_FOUND.phrase}, status=404)


def on_crash(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"detail": HTTPStatus.INTERNAL_SERVER_ERROR.phrase}, status=500)


# The names that Django looks for in the module of the URLs.
urlpatterns = [
    path("hello", hello),
    path("crash", crash),
    path("users", UsersView.as_view()),
    path("users/<int:user_id>", UserView.as_view()),
]
handler404 = on_not_found
handler500 = on_crash

app = BatchMiddleware(get_asgi_application(), console=True)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
