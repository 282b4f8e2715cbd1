"""The URLs of the shop."""

from django.urls import path

from . import views

urlpatterns = [
    path("", views.order_list, name="orders"),
    path("orders/<slug:number>/", views.order_page, name="order"),
    path("orders/<slug:number>/cancel/", views.cancel_order, name="cancel_order"),
    path("webhooks/cryptocloud/", views.cryptocloud_webhook, name="cryptocloud_webhook"),
]
