"""Images: all containers have the same one, by a tag or a digest; what they run lies in the files that are mounted."""

from __future__ import annotations

import pytest
import yaml

from .chart import SOURCE, Object, containers, find, pods, render

DEFAULT = "dock.mau.dev/maubot/maubot:v0.6.0"


@pytest.mark.parametrize(
    ("values", "image"),
    [
        ("minimal", DEFAULT),
        ("existing-maubot-upload", DEFAULT),
        ("everything", "mirror.example.org/maubot:v0.6.1"),
        ("postgres", f"registry.example.org/maubot-k8s-toggle@sha256:{'0123456789abcdef' * 4}"),
    ],
)
def test_every_container_has_the_image_of_the_values(values: str, image: str) -> None:
    for name, container in containers(render(values)):
        assert container["image"] == image, name
        assert container["imagePullPolicy"] == ("Always" if values == "everything" else "IfNotPresent"), name


def test_the_default_image_is_the_maubot_that_the_plugin_is_for() -> None:
    needed = yaml.safe_load((SOURCE.parent / "maubot.yaml").read_text(encoding="utf-8"))["maubot"]
    assert DEFAULT.endswith(f":v{needed}")


def test_artifact_hub_is_told_the_default_image() -> None:
    about = yaml.safe_load((SOURCE / "Chart.yaml").read_text(encoding="utf-8"))
    (image,) = yaml.safe_load(about["annotations"]["artifacthub.io/images"])
    assert image["image"] == DEFAULT


def test_every_program_and_file_of_a_command_is_mounted(objects: list[Object]) -> None:
    volumes = {owner: {volume["name"]: volume for volume in pod["spec"]["volumes"]} for owner, pod in pods(objects)}
    for name, container in containers(objects):
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        for path in container["command"][1:]:
            directory, _, file = path.rpartition("/")
            source = volumes[name.split(",")[0]][mounts[directory]]["configMap"]
            data = find(objects, "ConfigMap", source["name"])["data"]
            assert data.get(file, "").strip(), f"{name}: {path} is empty"


def test_every_mount_has_its_volume(objects: list[Object]) -> None:
    for owner, pod in pods(objects):
        claims = ["data"] if "existing-secret" not in owner and owner.startswith("StatefulSet") else []
        there = {*(volume["name"] for volume in pod["spec"]["volumes"]), *claims}
        for container in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]):
            for mount in container["volumeMounts"]:
                assert mount["name"] in there, f"{owner}, container {container['name']}: {mount['name']}"


def test_programs_are_whole(objects: list[Object]) -> None:
    for each in (each for each in objects if each["kind"] == "ConfigMap" and "data" in each):
        for name, text in each["data"].items():
            if name.endswith((".py", ".txt")) and (SOURCE / "files" / name).is_file():
                assert text.rstrip() == (SOURCE / "files" / name).read_text(encoding="utf-8").rstrip(), name


def test_packages_are_installed_only_if_asked_for() -> None:
    assert "install" in [container["name"] for _, container in containers(render("minimal"))]
    objects = render("postgres")
    assert "install" not in [container["name"] for _, container in containers(objects)]
    assert "requirements.txt" not in find(objects, "ConfigMap", "rel-maubot-k8s-toggle")["data"]
