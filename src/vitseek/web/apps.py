"""The Django app."""

from django.apps import AppConfig


class WebConfig(AppConfig):
    name = "vitseek.web"
    label = "vitseek"
