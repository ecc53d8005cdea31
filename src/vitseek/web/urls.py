"""Every address of the server."""

from django.urls import path
from django.views.i18n import set_language

from vitseek.web import views
from vitseek.web.api import api

urlpatterns = [
    path("", views.home, name="home"),
    path("search", views.upload, name="upload"),
    path("images/<image>", views.details, name="details"),
    path("images/<image>/thumbnail", views.picture, {"kind": "thumbnail"}, name="thumbnail"),
    path("images/<image>/preview", views.picture, {"kind": "preview"}, name="preview"),
    path("images/<image>/original", views.original, name="original"),
    path("queries/<token>/preview", views.held_preview, name="held-preview"),
    path("language", set_language, name="language"),
    path("healthz", views.health, name="health"),
    path("api/v1/", api.urls),
]

handler400 = "vitseek.web.failures.bad_request"
handler403 = "vitseek.web.failures.forbidden"
handler404 = "vitseek.web.failures.not_found"
handler500 = "vitseek.web.failures.server_error"
