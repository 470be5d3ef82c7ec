"""What the environment says about proxies and certificates, and what is told when it cannot be used."""

import importlib.util
import ssl

import pytest
import trustme

from jinaclip import ConfigError
from jinaclip.backends.api.exchange import proxy_for, tls_context
from jinaclip.errors import MissingDependencyError

SERVICE = "https://api.example.org/v1/embeddings"
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
PASSWORD = "secretword"


@pytest.fixture
def environment(monkeypatch):
    """Sets variables in an environment without proxies and certificates."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)

    def set_variables(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_variables


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, (None, None)),
        ({"HTTPS_PROXY": "http://proxy:80"}, ("HTTPS_PROXY", "http://proxy:80")),
        ({"https_proxy": "http://small:80", "HTTPS_PROXY": "http://large:80"}, ("https_proxy", "http://small:80")),
        ({"https_proxy": "proxy:80"}, ("https_proxy", "http://proxy:80")),
        ({"ALL_PROXY": "http://proxy:80"}, ("ALL_PROXY", "http://proxy:80")),
        ({"all_proxy": "http://all:80", "https_proxy": "http://own:80"}, ("https_proxy", "http://own:80")),
        ({"all_proxy": "socks5h://proxy:80"}, ("all_proxy", "socks5h://proxy:80")),
        ({"http_proxy": "http://proxy:80"}, (None, None)),
        ({"https_proxy": "http://proxy:80", "no_proxy": "example.org"}, (None, None)),
        ({"https_proxy": "http://proxy:80", "NO_PROXY": "*"}, (None, None)),
        ({"https_proxy": "http://proxy:80", "no_proxy": "other.org"}, ("https_proxy", "http://proxy:80")),
        ({"https_proxy": "", "all_proxy": ""}, (None, None)),
    ],
)
def test_the_proxy_is_found_and_its_variable_is_named_as_it_is_spelled(environment, variables, found):
    environment(**variables)
    assert proxy_for(SERVICE) == found


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize(
    ("scheme", "words"),
    [
        ("socks", "names a proxy of scheme 'socks', which is none of http, https, socks5, socks5h; write socks5://"),
        ("socks4", "scheme 'socks4', .*; write socks5://"),
        ("gopher", r"scheme 'gopher', which is none of http, https, socks5, socks5h \(value not shown\)"),
    ],
)
def test_a_proxy_of_a_scheme_that_is_not_known(environment, name, scheme, words):
    environment(**{name: f"{scheme}://user:{PASSWORD}@proxy:1080"})
    with pytest.raises(ConfigError, match=words) as caught:
        proxy_for(SERVICE)
    assert f"the environment variable {name} " in str(caught.value)
    assert PASSWORD not in str(caught.value)
    assert "proxy:1080" not in str(caught.value)


@pytest.mark.parametrize("value", ["http://", "http://user:{}@:80", "http://user:{}@proxy:port"])
def test_a_value_that_is_no_url(environment, value):
    environment(ALL_PROXY=value.format(PASSWORD))
    with pytest.raises(ConfigError, match="variable ALL_PROXY is no http proxy URL") as caught:
        proxy_for(SERVICE)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("value", ["user:{}@http://proxy", "user {}://proxy", "{0}{0}://proxy", "://{}"])
def test_what_is_no_scheme_is_not_shown_as_one(environment, value):
    environment(https_proxy=value.format(PASSWORD))
    with pytest.raises(ConfigError, match="https_proxy is no proxy URL") as caught:
        proxy_for(SERVICE)
    assert PASSWORD not in str(caught.value)


def test_a_socks_proxy_without_the_extra(environment, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "socksio" else found(name))
    environment(ALL_PROXY=f"socks5://user:{PASSWORD}@proxy:1080")
    with pytest.raises(MissingDependencyError, match=r"ALL_PROXY names a socks5 proxy.*httpx\[socks\]") as caught:
        proxy_for(SERVICE)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_certificates_that_do_not_exist(environment, tmp_path, name):
    path = str(tmp_path / "none")
    environment(**{name: path})
    with pytest.raises(ConfigError, match=f"the environment variable {name} names .*does not exist") as caught:
        tls_context()
    assert path in str(caught.value)


def test_certificates_of_another_kind(environment, tmp_path):
    file = tmp_path / "file"
    file.write_text("no certificate")
    for name, path in (("SSL_CERT_FILE", tmp_path), ("SSL_CERT_DIR", file)):
        environment(SSL_CERT_FILE="", SSL_CERT_DIR="")
        environment(**{name: str(path)})
        with pytest.raises(ConfigError, match=name) as caught:
            tls_context()
        assert str(path) in str(caught.value)


def test_a_file_without_a_certificate(environment, tmp_path):
    file = tmp_path / "file.pem"
    file.write_text("no certificate")
    environment(SSL_CERT_FILE=str(file))
    with pytest.raises(ConfigError, match=r"SSL_CERT_FILE=.*cannot be used") as caught:
        tls_context()
    assert str(file) in str(caught.value)


def test_certificates_of_the_environment_are_used(environment, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "own.pem")
    environment(SSL_CERT_FILE=str(tmp_path / "own.pem"))
    context = tls_context()
    assert len(context.get_ca_certs()) == 1
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert tls_context() is context, "making one takes 30 ms"
