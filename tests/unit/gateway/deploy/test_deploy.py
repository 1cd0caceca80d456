"""`python -m gateway deploy` against stand-ins for both of RunPod's APIs, over HTTP."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from gateway.deploy import main
from gateway.deploy.management import Management
from tests.fakes.runpod_cloud import RunPodCloud
from tests.fakes.runpod_management import KEY, RESTRICTED_KEY, RunPodManagement

PAGE = (502, {"Content-Type": "text/html"}, "<html>bad gateway</html>")
TOO_MANY = (429, {"Content-Type": "application/problem+json", "Retry-After": "0"},
            '{"title": "Too Many Requests", "status": 429, "detail": "slow down"}')  # fmt: skip


@pytest.fixture
def there() -> Iterator[RunPodManagement]:
    with RunPodManagement() as there:
        yield there


@pytest.fixture
def folder(there: RunPodManagement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNPOD_MANAGEMENT_URL", there.url)
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    monkeypatch.setattr("gateway.deploy.endpoint._LOOK_AGAIN_S", 0.01)
    monkeypatch.setattr("gateway.deploy.trial._LOOK_AGAIN_S", 0.05)
    monkeypatch.setattr("gateway.deploy.management._FIRST_WAIT_S", 0.01)
    return tmp_path


def write(folder: Path, rest: str = "", image: str = "registry.example/edit:1.0.0") -> None:
    (folder / "deploy.toml").write_text(f'name = "edit"\nimage = "{image}"\n{rest}')


def writes(there: RunPodManagement) -> list[str]:
    return [method for method, _, _ in there.requests if method != "GET"]


def test_a_plan_shows_what_would_be_made_and_makes_nothing(
    there: RunPodManagement, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, '[env]\nTOKEN = "do-not-show"\n[workers]\nmin = 1\n')
    assert main(["plan"]) == 0
    said = capsys.readouterr().out
    assert "not there" in said
    # The cheapest first; a pool is only where a card is in one.
    assert "'pools': ['AMPERE_48', 'ADA_48_PRO', 'ADA_80_PRO']" in said
    assert "$1.22 to $4.18 a busy worker; $1.22 at rest (1 workers), $12.54 at most" in said
    assert "TOKEN" in said
    assert "do-not-show" not in said
    assert not writes(there)


def test_apply_makes_the_endpoint_once(
    there: RunPodManagement, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, 'volumes = ["vol1"]\n[env]\nA = "1"\n[secrets]\nB = "b"\n')
    assert main(["apply", "--no-edit"]) == 0
    assert main(["apply", "--no-edit"]) == 0
    assert writes(there) == ["POST"]
    (endpoint,) = there.endpoints.values()
    assert endpoint["env"] == {"A": "1", "B": "{{ RUNPOD_SECRET_b }}"}
    assert endpoint["networkVolumes"] == ["vol1"]
    assert endpoint["gpu"]["minCudaVersion"] == "13.0"
    assert endpoint["timeout"] == 660_000
    assert "as it should be" in capsys.readouterr().out
    assert "RUNPOD_ENDPOINT_ID=ep001" in main_output(["apply", "--no-edit"], capsys)


def main_output(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    main(argv)
    return capsys.readouterr().out


def test_apply_changes_what_differs_and_keeps_what_a_patch_would_clear(
    there: RunPodManagement, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, 'pools = ["ADA_48_PRO"]\nexcluded_gpus = ["NVIDIA L40"]\n[env]\nA = "1"\n')
    assert main(["apply", "--no-edit"]) == 0
    more = 'pools = ["ADA_48_PRO", "AMPERE_48"]\nexcluded_gpus = ["NVIDIA L40"]\n'
    write(folder, more + '[env]\nA = "1"\nB = "2"\n', image="registry.example/edit:1.1.0")
    capsys.readouterr()
    assert main(["apply", "--no-edit"]) == 0
    (endpoint,) = there.endpoints.values()
    assert endpoint["env"] == {"A": "1", "B": "2"}
    assert endpoint["gpu"]["excludedTypes"] == ["NVIDIA L40"]
    body = [body for method, _, body in there.requests if method == "PATCH"][-1]
    assert set(body) == {"image", "gpu", "env"}
    said = capsys.readouterr().out
    assert "image: registry.example/edit:1.0.0 -> registry.example/edit:1.1.0" in said
    # Two workers ran the old release; each was replaced before it returned.
    assert "2 of an older release" in said
    assert "0 of an older release" in said


def test_a_floor_gives_way_to_a_list_of_cuda_versions_and_back(
    there: RunPodManagement, folder: Path
) -> None:
    write(folder)
    assert main(["apply", "--no-edit"]) == 0
    write(folder, 'cuda = ["13.0", "13.1"]\n')
    assert main(["apply", "--no-edit"]) == 0
    (endpoint,) = there.endpoints.values()
    assert endpoint["gpu"]["allowedCudaVersions"] == ["13.0", "13.1"]
    assert endpoint["gpu"]["minCudaVersion"] is None
    write(folder, 'least_cuda = "12.6"\n')
    assert main(["apply", "--no-edit"]) == 0
    assert endpoint["gpu"]["allowedCudaVersions"] == []
    assert endpoint["gpu"]["minCudaVersion"] == "12.6"


def test_workers_may_follow_the_number_of_requests(there: RunPodManagement, folder: Path) -> None:
    write(folder, "[scaling]\nrequest_count = 2\n")
    assert main(["apply", "--no-edit"]) == 0
    assert main(["apply", "--no-edit"]) == 0
    assert writes(there) == ["POST"]


def test_a_field_that_runpod_took_and_did_not_keep_is_told(
    there: RunPodManagement, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder)
    main(["apply", "--no-edit"])
    there.drops = {"disk"}
    write(folder, "disk_gb = 80\n")
    capsys.readouterr()
    assert main(["apply", "--no-edit"]) == 1
    assert "did not keep it: disk is 60" in capsys.readouterr().out


def test_a_creation_whose_answer_is_lost_makes_no_second_endpoint(
    there: RunPodManagement, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder)
    there.lose_answer = True
    assert main(["apply", "--no-edit"]) == 1
    assert "run it again" in capsys.readouterr().out
    assert main(["apply", "--no-edit"]) == 0
    assert len(there.endpoints) == 1


def test_two_endpoints_of_one_name_are_not_guessed_between(
    there: RunPodManagement, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there.add("edit")
    chosen = there.add("edit -fb", image="registry.example/edit:0.9.0", disk=60)
    write(folder)
    assert main(["plan"]) == 1
    assert "ep001, ep002" in capsys.readouterr().out
    write(folder, f'endpoint_id = "{chosen}"\n')
    assert main(["apply", "--no-edit"]) == 0
    assert there.endpoints[chosen]["image"] == "registry.example/edit:1.0.0"
    assert "image" not in there.endpoints["ep001"]
    write(folder, 'endpoint_id = "gone"\n')
    assert main(["plan"]) == 1
    assert "there is no endpoint gone" in capsys.readouterr().out


def test_an_endpoint_without_a_queue_is_left_alone(
    there: RunPodManagement, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there.endpoints[there.add("edit")]["type"] = "LOAD_BALANCER"
    write(folder)
    assert main(["apply"]) == 1
    assert "LOAD_BALANCER" in capsys.readouterr().out
    assert not writes(there)


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ('pools = ["ADA_49"]', "no pool 'ADA_49'"),
        ("least_gpu_gb = 500", "no pool has cards of 500 GB"),
        ("most_price_per_hour = 1.0", "AMPERE_48 (48 GB, $1.22 an hour)"),
        ('[registry]\nname = "mine"', "no registry login 'mine'"),
    ],
)
def test_what_cannot_be_had_is_told_with_what_there_is(
    there: RunPodManagement, folder: Path, capsys: pytest.CaptureFixture[str], rest: str, said: str
) -> None:
    write(folder, rest)
    assert main(["apply"]) == 1
    assert said in capsys.readouterr().out
    assert not writes(there)


def test_a_registry_login_is_made_once_and_its_password_is_never_shown(
    there: RunPodManagement, folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write(folder, '[registry]\nname = "mine"\nusername = "me"\n')
    assert main(["apply", "--no-edit"]) == 1
    assert "RUNPOD_REGISTRY_PASSWORD is not set" in capsys.readouterr().out
    monkeypatch.setenv("RUNPOD_REGISTRY_PASSWORD", "hush-hush")
    assert main(["apply", "--no-edit"]) == 0
    assert main(["apply", "--no-edit"]) == 0
    assert there.registries == [{"id": "reg1", "name": "mine"}]
    (endpoint,) = there.endpoints.values()
    assert endpoint["registry"] == "reg1"
    assert "hush-hush" not in "".join(capsys.readouterr())


def test_faults_that_pass_are_waited_out(there: RunPodManagement, folder: Path) -> None:
    write(folder)
    there.faults.extend([PAGE, TOO_MANY])
    assert main(["plan"]) == 0


def test_a_creation_is_sent_again_only_where_it_was_surely_not_taken(
    there: RunPodManagement,
) -> None:
    with Management(there.url, KEY, sleep=lambda _: None) as management:
        there.faults.append(TOO_MANY)
        body = {"name": "a", "type": "QUEUE", "image": "a:1", "gpu": {"pools": ["ADA_24"]},
                "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4}}  # fmt: skip
        assert management.create(body)["id"] == "ep001"
        there.faults.append(PAGE)
        with pytest.raises(Exception, match="502"):
            management.create(body)
    assert len(there.endpoints) == 1


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ((200, {"Content-Type": "text/html"}, "<html>"), "no JSON"),
        ((200, {"Content-Type": "application/json"}, "[]"), "no object"),
        ((200, {"Content-Type": "application/json"}, "{}"), "no list 'endpoints'"),
        ((409, {"Content-Type": "application/json"}, '{"title": "Conflict"}'), "Conflict"),
        ((401, {}, ""), "RUNPOD_API_KEY is wrong"),
        ((403, {"Content-Type": "text/html"}, "<html>waf"), "may not manage"),
    ],
)
def test_answers_that_are_none_are_told_in_a_sentence(
    there: RunPodManagement, folder: Path, capsys: pytest.CaptureFixture[str],
    fault: tuple[int, dict[str, str], str], said: str,
) -> None:  # fmt: skip
    write(folder)
    there.faults.append(fault)
    assert main(["plan"]) == 1
    assert said in capsys.readouterr().out


def test_a_key_that_a_server_repeats_is_not_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder)
    monkeypatch.setenv("RUNPOD_API_KEY", "rpa_WRONG")
    assert main(["plan"]) == 1
    said = "".join(capsys.readouterr())
    assert "invalid key [key]" in said
    assert "rpa_WRONG" not in said


def test_a_missing_key_says_where_to_make_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder)
    monkeypatch.delenv("RUNPOD_API_KEY")
    assert main(["plan"]) == 1
    assert "RUNPOD_API_KEY is not set" in capsys.readouterr().out


def test_check_tells_each_right_by_its_own_call(
    there: RunPodManagement, folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with RunPodCloud(key=KEY) as cloud:
        monkeypatch.setenv("RUNPOD_JOBS_URL", cloud.url)
        monkeypatch.setenv("RUNPOD_ENDPOINT_ID", cloud.endpoint_id)
        assert main(["check"]) == 0
        said = capsys.readouterr().out
        assert "may manage endpoints: yes" in said
        assert f"may run jobs on {cloud.endpoint_id}: yes" in said
    with RunPodCloud(key=RESTRICTED_KEY) as cloud:
        monkeypatch.setenv("RUNPOD_JOBS_URL", cloud.url)
        monkeypatch.setenv("RUNPOD_API_KEY", RESTRICTED_KEY)
        assert main(["check"]) == 1
        said = "".join(capsys.readouterr())
        assert "may manage endpoints: no; " in said
        assert "403" in said
        assert f"may run jobs on {cloud.endpoint_id}: yes" in said
        assert RESTRICTED_KEY not in said


def test_after_apply_one_real_edit_shows_its_picture_and_times(
    there: RunPodManagement, folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write(folder)
    with RunPodCloud(key=KEY, endpoint_id="ep001") as cloud:
        monkeypatch.setenv("RUNPOD_JOBS_URL", cloud.url)
        assert main(["apply"]) == 0
        said = capsys.readouterr().out
    assert "COMPLETED" in said
    assert "execution: " in said
    with Image.open(io.BytesIO((folder / "out" / "deploy.png").read_bytes())) as picture:
        assert picture.size == (512, 512)


def test_an_edit_that_fails_fails_the_deployment(
    there: RunPodManagement, folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write(folder)
    failing = RunPodCloud(
        key=KEY, endpoint_id="ep001", execute=lambda _job: {"error": "model_missing: no VAE"}
    )
    with failing as cloud:
        monkeypatch.setenv("RUNPOD_JOBS_URL", cloud.url)
        assert main(["apply"]) == 1
    assert "model_missing: no VAE" in capsys.readouterr().out


def test_an_edit_that_no_worker_takes_is_cancelled(
    there: RunPodManagement, folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write(folder)
    with RunPodCloud(key=KEY, endpoint_id="ep001", max_workers=0) as cloud:
        monkeypatch.setenv("RUNPOD_JOBS_URL", cloud.url)
        assert main(["apply", "--timeout-s", "0.3"]) == 1
        assert [job.status for job in cloud.jobs.values()] == ["CANCELLED"]
    assert "IN_QUEUE for 0.3 s and is cancelled" in capsys.readouterr().out


def test_destroy_ends_only_what_was_meant(
    there: RunPodManagement, folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write(folder)
    there.add("edit")
    other = there.add("another")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["destroy"]) == 1
    assert len(there.endpoints) == 2
    assert main(["destroy", "--yes"]) == 0
    assert list(there.endpoints) == [other]
    assert main(["destroy", "--yes"]) == 0
    assert "there is no endpoint 'edit'" in capsys.readouterr().out


def test_what_is_sent_is_json_that_shows_no_key(there: RunPodManagement, folder: Path) -> None:
    write(folder)
    main(["apply", "--no-edit"])
    assert KEY not in json.dumps([body for _, _, body in there.requests])
