"""What the cluster says, shortened: nothing secret, one line, and the gist."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toggle_plugin.shorten import (
    LENGTH,
    claim_failure,
    creation_failure,
    image_failure,
    probe_failure,
    scheduling,
    shorten,
    start_failure,
    volume_failure,
)


def test_the_query_of_a_url_is_not_shown() -> None:
    message = 'Get "https://registry.example/v2?service=x&token=s3cret": denied, see http://a.example/b?c=s3cret now'
    assert shorten(message) == 'Get "https://registry.example/v2": denied, see http://a.example/b now'


def test_a_message_is_one_line_without_its_last_point() -> None:
    assert shorten(" one\n\ttwo  three.\n") == "one two three"


def test_a_long_message_is_cut() -> None:
    assert shorten("x" * LENGTH) == "x" * LENGTH
    cut = shorten("word " * 100)
    assert len(cut) <= LENGTH
    assert cut.endswith("…")


@pytest.mark.parametrize(
    "shortened",
    [
        *(shorten, image_failure, scheduling, claim_failure, volume_failure),
        *(creation_failure, start_failure, probe_failure),
    ],
)
@given(message=st.text())
def test_any_message_becomes_one_short_line(shortened, message: str) -> None:  # type: ignore[no-untyped-def]
    found = shortened(message)
    assert len(found) <= LENGTH
    assert len(found.splitlines()) <= 1


@given(
    st.text(alphabet="abc/.:-"),
    st.from_regex(r"https?://[a-z./]+", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9=&%+/-]{1,20}", fullmatch=True),
)
def test_whatever_stands_in_a_query_is_not_shown(before: str, url: str, query: str) -> None:
    assert f"?{query}" not in shorten(f"{before} {url}?{query} after")


@pytest.mark.parametrize(
    ("message", "gist"),
    [
        (
            (
                'Back-off pulling image "app:2": ErrImagePull: failed to pull and unpack image "r.example/app:2": '
                'failed to resolve reference "r.example/app:2": r.example/app:2: not found'
            ),
            "r.example/app:2: not found",
        ),
        (
            (
                'rpc error: code = NotFound desc = failed to pull and unpack image "r.example/app:2": '
                'failed to resolve image: failed to do request: Head "https://r.example/v2/app/manifests/2": '
                "dial tcp 192.0.2.1:443: i/o timeout"
            ),
            "dial tcp 192.0.2.1:443: i/o timeout",
        ),
        ('Back-off pulling image "app:2"', 'Back-off pulling image "app:2"'),
        ("unauthorized: authentication required", "unauthorized: authentication required"),
    ],
)
def test_an_image_failure_is_what_the_registry_says(message: str, gist: str) -> None:
    assert image_failure(message) == gist


@pytest.mark.parametrize(
    ("message", "gist"),
    [
        (
            (
                "0/5 nodes are available: 3 Insufficient cpu, 2 node(s) had untolerated taint {dedicated: gpu}. "
                "preemption: 0/5 nodes are available: 5 No preemption victims found for incoming pod."
            ),
            "none of 5 fits: 3 Insufficient cpu, 2 had untolerated taint {dedicated: gpu}",
        ),
        (
            (
                "0/1 nodes are available: 1 Insufficient memory. no new claims to deallocate, preemption: 0/1 nodes "
                "are available: 1 Preemption is not helpful for scheduling."
            ),
            "the only one does not fit: Insufficient memory",
        ),
        (
            "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.",
            "none of 2 fits: 2 didn't match Pod's node affinity/selector",
        ),
        ("no nodes available to schedule pods", "no nodes available to schedule pods"),
        (
            "Scheduling is blocked due to non-empty scheduling gates",
            "Scheduling is blocked due to non-empty scheduling gates",
        ),
    ],
)
def test_the_schedulers_words_are_told_without_what_preemption_cannot_mend(message: str, gist: str) -> None:
    assert scheduling(message) == gist


def test_nodes_are_left_out_where_a_claim_is_what_is_missing() -> None:
    message = '0/3 nodes are available: persistentvolumeclaim "data" not found. preemption: 0/3 nodes are available: …'
    assert claim_failure(message) == 'persistentvolumeclaim "data" not found'


@pytest.mark.parametrize(
    ("message", "gist"),
    [
        (
            'MountVolume.SetUp failed for volume "conf" : configmap "absent" not found',
            'its volume conf: configmap "absent" not found',
        ),
        (
            'AttachVolume.Attach failed for volume "pvc-1" : rpc error: code = NotFound desc = no such disk',
            "its volume pvc-1: no such disk",
        ),
        (
            'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) web-0',
            'a volume: Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) web-0',
        ),
        (
            (
                'MountVolume.SetUp failed for volume "share" : mount failed: exit status 32\nMounting command: mount\n'
                "Mounting arguments: -t cifs -o password=s3cret //server/x /var/lib/x\nOutput: mount error(13)"
            ),
            "its volume share: mount failed: exit status 32: mount error(13)",
        ),
        ("Unable to attach or mount volumes: timed out", "a volume: Unable to attach or mount volumes: timed out"),
    ],
)
def test_a_volume_failure_names_the_volume(message: str, gist: str) -> None:
    assert volume_failure(message) == gist


@pytest.mark.parametrize(
    ("message", "gist"),
    [
        (
            (
                'pods "web-1" is forbidden: exceeded quota: compute, requested: limits.memory=1Gi,pods=1, '
                "used: limits.memory=4Gi,pods=4, limited: limits.memory=4Gi,pods=4"
            ),
            (
                "its pods cannot be created, for they exceed the quota compute: requested limits.memory=1Gi,pods=1, "
                "used limits.memory=4Gi,pods=4, limited limits.memory=4Gi,pods=4"
            ),
        ),
        (
            (
                'create Pod db-0 in StatefulSet db failed error: pods "db-0" is forbidden: failed quota: compute: must '
                "specify limits.cpu for: db"
            ),
            "its pods cannot be created, for the quota compute asks more of them: must specify limits.cpu for: db",
        ),
        (
            (
                'Error creating: pods "web-1" is forbidden: violates PodSecurity "baseline:v1.37": host namespaces '
                '(hostNetwork=true), privileged (container "a" must not set securityContext.privileged=true)'
            ),
            'its pods cannot be created, for Pod Security "baseline" forbids them: host namespaces, privileged',
        ),
        (
            'admission webhook "policy.example" denied the request: no latest tags',
            'its pods cannot be created: admission webhook "policy.example" denied the request: no latest tags',
        ),
        ("", "its pods cannot be created"),
    ],
)
def test_what_refuses_pods_is_told_first(message: str, gist: str) -> None:
    assert creation_failure(message) == gist


def test_a_process_that_does_not_start_is_told_without_the_way_through_the_runtime() -> None:
    message = (
        "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: "
        'unable to start container process: error during container init: exec: "run": no such file: unknown'
    )
    assert start_failure(message) == 'exec: "run": no such file'
    assert probe_failure(f"Readiness probe errored and resulted in unknown state: rpc error: {message}") == (
        'exec: "run": no such file'
    )
    assert probe_failure("Liveness probe failed: HTTP probe failed with statuscode: 500") == (
        "HTTP probe failed with statuscode: 500"
    )


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ('Readiness probe failed: Get "http://10.0.0.1/?key=s3cret": EOF', 'Get "http://10.0.0.1/": EOF'),
        ("Readiness probe failed: dial tcp 10.0.0.1:1: connect: connection refused", None),
        ('Readiness probe errored: command "check" timed out after 1s', None),
        ('Liveness probe failed: service unhealthy (responded with "NOT_SERVING")', None),
        ('Startup probe failed: timeout: failed to connect service "a:1" within 1s', None),
        ("Readiness probe failed: password s3cret was refused", ""),
        ("Readiness probe failed: ", ""),
    ],
)
def test_what_the_command_of_a_probe_wrote_is_not_shown(message: str, shown: str | None) -> None:
    assert probe_failure(message) == (message.split(": ", 1)[1] if shown is None else shown)
