"""Endpoints: what is accepted comes back as written, what is refused is named with its mend."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastun.endpoint import Endpoint, parse, parse_host_port
from fastun.errors import ConfigError

LABELS = st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z]", fullmatch=True)
HOSTS = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.ip_addresses(v=6, network="fe80::/10").map(lambda address: f"{address}%eth0"),
    st.lists(LABELS, min_size=1, max_size=4).map(".".join),
)
ENDPOINTS = st.builds(Endpoint, st.sampled_from(["tcp", "udp"]), HOSTS, st.integers(1, 65535))


@given(ENDPOINTS)
def test_an_endpoint_survives_being_written_and_read(endpoint: Endpoint) -> None:
    assert parse(str(endpoint)) == endpoint


@given(st.one_of(st.text(), st.text(alphabet="tcpud:/[].%0123456789af-_@\n ")))
def test_any_text_is_an_endpoint_or_one_line_of_complaint(text: str) -> None:
    for candidate in (text, f"tcp://{text}", f"tcp://[{text}]", f"udp://host:{text}"):
        try:
            endpoint = parse(candidate)
        except ConfigError as error:
            complaint = str(error)
            assert complaint
            assert complaint.isprintable()
        else:
            assert parse(str(endpoint)) == endpoint
            assert 1 <= endpoint.port <= 65535
            assert str(endpoint).isascii()
            assert str(endpoint).isprintable()


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("tcp://vpn.example.net", Endpoint("tcp", "vpn.example.net", 55555)),
        ("udp://vpn.example.net", Endpoint("udp", "vpn.example.net", 51820)),
        ("tcp://192.0.2.1:443", Endpoint("tcp", "192.0.2.1", 443)),
        ("tcp://[2001:DB8:0::1]", Endpoint("tcp", "2001:db8::1", 55555)),
        ("tcp://[fe80::1%eth0]:1", Endpoint("tcp", "fe80::1%eth0", 1)),
        ("TCP://Host_1.Example.:65535", Endpoint("tcp", "host_1.example.", 65535)),
    ],
)
def test_defaults_and_spellings(text: str, endpoint: Endpoint) -> None:
    assert parse(text) == endpoint


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("vpn.example.net", "write tcp://vpn.example.net:55555"),
        ("vpn.example.net:443", "write tcp://vpn.example.net:443"),
        ("2001:db8::1", "write tcp://[2001:db8::1]:55555"),
        ("[2001:db8::1]:443", "write tcp://[2001:db8::1]:443"),
        ("not a host", "write tcp://HOST:PORT"),
        ("", "write tcp://HOST:PORT"),
    ],
)
def test_an_endpoint_without_scheme_is_answered_with_the_right_spelling(
    text: str, mend: str
) -> None:
    with pytest.raises(ConfigError, match="has no scheme") as caught:
        parse(text)
    assert str(caught.value).endswith(mend)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("http://host", "unknown scheme 'http'; write tcp:// or udp://"),
        ("tcp://", "host is missing"),
        ("tcp://:55555", "host is missing"),
        ("tcp://host:", "port '' is out"),
        ("tcp://host:0", "port '0' is out of range (1-65535)"),
        ("tcp://host:65536", "port '65536'"),
        ("tcp://host:٤٤٣", "port '٤٤٣'"),
        ("tcp://host:" + "9" * 5000, "is out of range (1-65535)"),
        ("tcp://host:80/path", "unexpected '/'; expected HOST:PORT"),
        ("tcp://user@host", "unexpected '@'; expected HOST:PORT"),
        ("tcp://2001:db8::1", "needs brackets, as in [2001:db8::1]:55555"),
        ("tcp://[host]", "is not an IPv6 address; write a name without brackets"),
        ("tcp://[192.0.2.1]", "is not an IPv6 address"),
        ("tcp://[fe80::1%bad zone]", "zone 'bad zone'"),
        ("tcp://[fe80::1%$(id)]", "zone '$(id)' is not an interface"),
        ("tcp://[fe80::1%eth0\n]", "zone 'eth0\\n' is not an interface"),
        ("tcp://[fe80::1%0123456789abcdef]", "zone '0123456789abcdef' is not an interface"),
        ("tcp://[2001:db8::1%eth0]", "zone 'eth0' applies only to link-local addresses (fe80::)"),
        ("tcp://300.1.1.1", "is not an IPv4 address"),
        ("tcp://1.2.3", "is not an IPv4 address"),
        ("tcp://0x7f000001", "is not an IPv4 address"),
        ("tcp://-host", "is not a host name"),
        ("tcp://a..b", "is not a host name"),
        ("tcp://" + "a" * 64, "is not a host name"),
        ("tcp://" + ".".join(["a" * 60] * 5), "is not a host name"),
        ("tcp://bücher.example", "in their xn-- form"),
        ("tcp://host\n", "'host\\n' is not a host name"),
    ],
)
def test_what_is_wrong_is_named(text: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert named in str(caught.value)


def test_a_port_that_is_left_out_differs_from_one_that_is_there() -> None:
    assert parse_host_port("localhost") == ("localhost", None)
    assert parse_host_port("[::1]:10055") == ("::1", 10055)
