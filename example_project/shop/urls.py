"""The URLs of the shop."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

from . import views

urlpatterns = [
    path("", views.order_list, name="orders"),
    path("orders/<slug:number>/", views.order_page, name="order"),
    path("orders/<slug:number>/cancel/", views.cancel_order, name="cancel_order"),
    path("webhooks/cryptocloud/", views.cryptocloud_webhook, name="cryptocloud_webhook"),
    path("login/", LoginView.as_view(template_name="shop/login.html"), name="login"),
    path("logout/", LogoutView.as_view(next_page="login"), name="logout"),
    path("language/", include("django.conf.urls.i18n")),  # set_language
]
