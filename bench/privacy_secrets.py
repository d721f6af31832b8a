"""Generates labelled secrets in code, configuration and prose: `generate(seed, count)` -> documents with the spans of their secrets.

The formats are written down here from the vendors' documentation, independently of the detector's catalogue. Nothing here is a
real key: everything is drawn from a seeded generator.
"""

from __future__ import annotations

import base64
import json
import random
import string
from dataclasses import dataclass

ALNUM = string.ascii_letters + string.digits
UPPER = string.ascii_uppercase + string.digits
LOWER = string.ascii_lowercase + string.digits
HEX = "0123456789abcdef"
B64 = ALNUM + "+/"
URL = ALNUM + "-_"


@dataclass(frozen=True)
class Sample:
    """One document and where its secret stands."""

    kind: str
    context: str
    text: str
    start: int
    end: int


def _draw(rng: random.Random, alphabet: str, count: int) -> str:
    return "".join(rng.choice(alphabet) for _ in range(count))


def _uuid(rng: random.Random) -> str:
    value = _draw(rng, HEX, 32)
    return f"{value[:8]}-{value[8:12]}-{value[12:16]}-{value[16:20]}-{value[20:]}"


def _jwt(rng: random.Random) -> str:
    parts = [
        {"alg": "HS256", "typ": "JWT"},
        {"sub": _draw(rng, "0123456789", 10), "iat": rng.randrange(10**9, 2 * 10**9)},
    ]
    head = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*head, _draw(rng, URL, 43)])


def _pem(rng: random.Random) -> str:
    kind = rng.choice(["RSA PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY"])
    body = "\n".join(_draw(rng, B64, 64) for _ in range(rng.randrange(4, 12)))
    return f"-----BEGIN {kind}-----\n{body}\n-----END {kind}-----"


def _password(rng: random.Random) -> str:
    words = ["Winter", "river", "Tr0ub4", "falcon", "Kx9", "moon", "zebra", "Q7"]
    return rng.choice(words) + _draw(rng, ALNUM + "!#%^*?", rng.randrange(6, 12)) + rng.choice("!#%7")


def formats(rng: random.Random) -> dict[str, tuple[str, str]]:
    """Return kind -> (value, name of the variable it usually stands in)."""

    def d(alphabet: str, count: int) -> str:
        return _draw(rng, alphabet, count)

    def mixed(count: int) -> str:
        return d(ALNUM, count - 3) + d(string.digits, 1) + d(string.ascii_uppercase, 1) + d(string.ascii_lowercase, 1)

    return {
        "aws_access_key": ("AKIA" + d("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16), "aws_access_key_id"),
        "aws_secret_key": (d(B64, 37) + d("0123456789", 1) + "aZ", "aws_secret_access_key"),
        "gcp_api_key": ("AIza" + d(URL, 35), "google_api_key"),
        "gcp_oauth": ("ya29." + d(URL, 80), "access_token"),
        "google_client_secret": ("GOCSPX-" + d(URL, 28), "client_secret"),
        "azure_storage": (d(B64, 86) + "==", "azure_storage_account_key"),
        "azure_client_secret": (d(ALNUM, 3) + "8Q~" + d(ALNUM + "_~.", 34), "azure_client_secret"),
        "github_pat": ("ghp_" + d(ALNUM, 36), "github_token"),
        "github_oauth": ("gho_" + d(ALNUM, 36), "github_token"),
        "github_app": ("ghs_" + d(ALNUM, 36), "github_token"),
        "github_fine": ("github_pat_" + d(ALNUM, 22) + "_" + d(ALNUM, 59), "github_token"),
        "gitlab_pat": ("glpat-" + d(URL, 20), "gitlab_token"),
        "gitlab_runner": ("glrt-" + d(URL, 20), "runner_token"),
        "slack_bot": (f"xoxb-{d('0123456789', 12)}-{d('0123456789', 13)}-{d(ALNUM, 24)}", "slack_token"),
        "slack_user": (f"xoxp-{d('0123456789', 12)}-{d('0123456789', 12)}-{d('0123456789', 12)}-{d(HEX, 32)}", "slack_token"),
        "slack_app": (f"xapp-1-A{d(UPPER, 10)}-{d('0123456789', 13)}-{d(HEX, 64)}", "slack_app_token"),
        "slack_webhook": (f"https://hooks.slack.com/services/T{d(UPPER, 8)}/B{d(UPPER, 10)}/{d(ALNUM, 24)}", "webhook_url"),
        "stripe_live": ("sk_live_" + d(ALNUM, 24), "stripe_key"),
        "stripe_test": ("sk_test_" + d(ALNUM, 99), "stripe_key"),
        "stripe_restricted": ("rk_live_" + d(ALNUM, 24), "stripe_key"),
        "stripe_webhook": ("whsec_" + d(ALNUM, 32), "stripe_webhook_secret"),
        "openai_project": ("sk-proj-" + d(URL, 48), "openai_api_key"),
        "openai_legacy": ("sk-" + d(ALNUM, 20) + "T3BlbkFJ" + d(ALNUM, 20), "openai_api_key"),
        "anthropic": ("sk-ant-api03-" + d(URL, 93) + "AA", "anthropic_api_key"),
        "nvidia": ("nvapi-" + d(URL, 64), "nvidia_api_key"),
        "huggingface": ("hf_" + d(string.ascii_letters, 34), "hf_token"),
        "groq": ("gsk_" + d(ALNUM, 52), "groq_api_key"),
        "replicate": ("r8_" + d(ALNUM, 37), "replicate_api_token"),
        "perplexity": ("pplx-" + d(ALNUM, 48), "pplx_api_key"),
        "xai": ("xai-" + d(ALNUM, 80), "xai_api_key"),
        "openrouter": ("sk-or-v1-" + d(HEX, 64), "openrouter_key"),
        "langsmith": (f"lsv2_pt_{d(HEX, 32)}_{d(HEX, 10)}", "langchain_api_key"),
        "pinecone": ("pcsk_" + d(ALNUM, 6) + "_" + d(ALNUM, 63), "pinecone_api_key"),
        "npm": ("npm_" + d(ALNUM, 36), "npm_token"),
        "pypi": ("pypi-AgEIcHlwaS5vcmc" + d(URL, 80), "pypi_token"),
        "rubygems": ("rubygems_" + d(HEX, 48), "gem_host_api_key"),
        "docker_pat": ("dckr_pat_" + d(URL, 27), "docker_token"),
        "twilio_key": ("SK" + d(HEX, 32), "twilio_api_key"),
        "twilio_auth": (d(HEX, 32), "twilio_auth_token"),
        "sendgrid": (f"SG.{d(URL, 22)}.{d(URL, 43)}", "sendgrid_api_key"),
        "mailgun": ("key-" + d(HEX, 32), "mailgun_api_key"),
        "mailchimp": (d(HEX, 32) + f"-us{rng.randrange(1, 21)}", "mailchimp_api_key"),
        "telegram": (d("123456789", 10) + ":AA" + d(URL, 33), "bot_token"),
        "discord_bot": (f"M{d(ALNUM, 23)}.{d(URL, 6)}.{d(URL, 38)}", "discord_token"),
        "discord_webhook": (f"https://discord.com/api/webhooks/{d('0123456789', 18)}/{d(URL, 68)}", "webhook"),
        "shopify": ("shpat_" + d(HEX, 32), "shopify_token"),
        "square": ("sq0atp-" + d(URL, 22), "square_token"),
        "square_new": ("EAAA" + d(URL, 60), "square_access_token"),
        "paypal": (d(URL, 79) + "9", "paypal_client_secret"),
        "braintree": (f"access_token$production${d(LOWER, 16)}${d(HEX, 32)}", "braintree_token"),
        "digitalocean": ("dop_v1_" + d(HEX, 64), "do_token"),
        "heroku": (_uuid(rng), "heroku_api_key"),
        "netlify": ("nfp_" + d(ALNUM, 36), "netlify_auth_token"),
        "databricks": ("dapi" + d(HEX, 32), "databricks_token"),
        "datadog": (d(HEX, 32), "datadog_api_key"),
        "newrelic": ("NRAK-" + d(UPPER, 27), "new_relic_api_key"),
        "grafana": ("glsa_" + d(ALNUM, 32) + "_" + d(HEX, 8), "grafana_token"),
        "sentry": ("sntrys_" + d(ALNUM, 100), "sentry_auth_token"),
        "pagerduty": ("u+" + d(ALNUM, 18), "pagerduty_api_key"),
        "vault": ("hvs." + d(URL, 90), "vault_token"),
        "terraform": (d(ALNUM, 14) + ".atlasv1." + d(URL, 67), "tfe_token"),
        "pulumi": ("pul-" + d(HEX, 40), "pulumi_access_token"),
        "doppler": ("dp.pt." + d(ALNUM, 43), "doppler_token"),
        "tailscale": (f"tskey-auth-{d(ALNUM, 12)}-{d(ALNUM, 32)}", "ts_authkey"),
        "age": ("AGE-SECRET-KEY-1" + d("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58), "age_key"),
        "linear": ("lin_api_" + d(ALNUM, 40), "linear_api_key"),
        "notion": ("ntn_" + d(ALNUM, 46), "notion_token"),
        "airtable": (f"pat{d(ALNUM, 14)}.{d(HEX, 64)}", "airtable_token"),
        "figma": ("figd_" + d(URL, 40), "figma_token"),
        "hubspot": ("pat-na1-" + _uuid(rng), "hubspot_token"),
        "atlassian": ("ATATT3xFfGF0" + d(URL, 180), "jira_api_token"),
        "bitbucket": ("ATBB" + d(ALNUM, 32), "bitbucket_app_password"),
        "okta": ("00" + d(URL, 40), "okta_api_token"),
        "postman": (f"PMAK-{d(HEX, 24)}-{d(HEX, 34)}", "postman_api_key"),
        "dynatrace": (f"dt0c01.{d(UPPER, 24)}.{d(UPPER, 64)}", "dt_token"),
        "planetscale": ("pscale_tkn_" + d(URL, 43), "pscale_token"),
        "supabase": ("sbp_" + d(HEX, 40), "supabase_access_token"),
        "mapbox": ("sk.eyJ" + d(URL, 80) + "." + d(URL, 22), "mapbox_token"),
        "facebook": ("EAACEdEose0cBA" + d(ALNUM, 120), "fb_access_token"),
        "twitter_bearer": ("AAAAAAAAAAAAAAAAAAAAA" + d(ALNUM + "%", 85), "twitter_bearer_token"),
        "cloudflare": (d(URL, 38) + "a7", "cloudflare_api_token"),
        "fastly": (d(URL, 30) + "b3", "fastly_api_token"),
        "algolia": (d(HEX, 32), "algolia_admin_key"),
        "snyk": (_uuid(rng), "snyk_token"),
        "circleci": (d(HEX, 40), "circleci_token"),
        "codecov": (_uuid(rng), "codecov_token"),
        "jwt": (_jwt(rng), "jwt"),
        "private_key": (_pem(rng), "private_key"),
        "postgres_url": (f"postgresql://app:{d(ALNUM, 16)}@db-{d(LOWER, 4)}.internal:5432/prod", "database_url"),
        "mongodb_url": (f"mongodb+srv://admin:{d(ALNUM, 14)}@cluster0.{d(LOWER, 5)}.mongodb.net/app", "mongo_uri"),
        "redis_url": (f"redis://:{d(ALNUM, 20)}@cache.internal:6379/0", "redis_url"),
        "amqp_url": (f"amqp://svc:{d(ALNUM, 18)}@mq.internal:5672/", "broker_url"),
        "basic_auth_url": (f"https://deploy:{d(ALNUM, 16)}@git.corp.example/repo.git", "remote"),
        "generic_api_key": (mixed(32), "api_key"),
        "generic_hex_key": (d(HEX, 40), "api_key"),
        "generic_secret": (mixed(40), "client_secret"),
        "generic_token": (mixed(36), "auth_token"),
        "generic_b64": (base64.b64encode(rng.randbytes(32)).decode(), "encryption_key"),
        "password": (_password(rng), "db_password"),
        "bcrypt": ("$2b$12$" + d("./" + ALNUM, 53), "password_hash"),
    }  # fmt: skip


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


CODE = [
    ("python", '{name} = "{value}"\n', lambda name: name),
    ("python-upper", "{name} = '{value}'  # rotate me\n", str.upper),
    ("python-dict", 'CONFIG = {{"{name}": "{value}", "retries": 3}}\n', lambda name: name),
    ("python-kwarg", 'client = Client({name}="{value}", timeout=30)\n', lambda name: name),
    ("javascript", 'const {name} = "{value}";\n', _camel),
    ("typescript", "export const config = {{ {name}: '{value}', region: 'eu-west-1' }};\n", _camel),
    ("go", '\t{name} := "{value}"\n', _camel),
    ("java", 'private static final String {name} = "{value}";\n', str.upper),
    ("ruby", '  {name}: "{value}",\n', lambda name: name),
    ("php", "define('{name}', '{value}');\n", str.upper),
    ("csharp", 'var {name} = "{value}";\n', _camel),
]
CONFIG = [
    ("env", "{name}={value}\n", str.upper),
    ("env-export", 'export {name}="{value}"\n', str.upper),
    ("yaml", "service:\n  {name}: {value}\n  replicas: 2\n", lambda name: name),
    ("yaml-quoted", 'env:\n  - name: {name}\n    value: "{value}"\n', str.upper),
    ("json", '{{"{name}": "{value}", "debug": false}}\n', _camel),
    ("toml", '[auth]\n{name} = "{value}"\n', lambda name: name),
    ("ini", "[default]\n{name} = {value}\n", lambda name: name),
    ("properties", "app.{name}={value}\n", lambda name: name.replace("_", ".")),
    ("dockerfile", "ENV {name}={value}\n", str.upper),
    ("terraform", 'variable "{name}" {{ default = "{value}" }}\n', lambda name: name),
    ("xml", '<add key="{name}" value="{value}" />\n', _camel),
    ("curl", 'curl -H "X-Api-Key: {value}" https://api.corp.example/v1  # {name}\n', lambda name: name),
]
PROSE = [
    ("chat", "hey, the {name} for staging is {value} - please do not share it\n", lambda name: name.replace("_", " ")),
    ("mail", "Hi all,\n\nplease use the new {name}: {value}\n\nThanks\n", lambda name: name.replace("_", " ")),
    ("ticket", "Login fails. My {name} is {value}. Can you check?\n", lambda name: name.replace("_", " ")),
    ("runbook", "3. Set the {name} to {value} and restart the pods.\n", lambda name: name.replace("_", " ")),
    ("log", "2026-03-01T10:00:00Z INFO auth {name}={value} status=200\n", lambda name: name),
]
_SELF_EVIDENT = {"jwt", "private_key", "slack_webhook", "discord_webhook"}


def generate(seed: int, count: int) -> list[Sample]:
    """Return labelled documents; the secret's span is the generated value."""
    rng = random.Random(seed)
    samples = []
    kinds = list(formats(rng))
    for index in range(count):
        kind = kinds[index % len(kinds)]
        value, name = formats(rng)[kind]
        family, rows = [("code", CODE), ("config", CONFIG), ("prose", PROSE)][index % 3]
        label, template, style = rng.choice(rows)
        if kind in ("private_key",) and label not in ("yaml", "mail", "chat"):
            value = value.replace("\n", "\\n")
        if label == "curl" and kind.endswith(("_url", "webhook", "private_key", "password", "bcrypt", "azure_storage")):
            label, template, style = CONFIG[0]
        before, after = template.split("{value}")
        head = before.format(name=style(name))
        text = _filler(rng) + head + value + after.format(name=style(name)) + _filler(rng)
        start = text.index(head) + len(head)
        samples.append(Sample(kind, f"{family}/{label}", text, start, start + len(value)))
    return samples


def _filler(rng: random.Random) -> str:
    return rng.choice(
        ["", "\n", "import os\n\n", "# settings\n", "The deployment of the service follows.\n", "x = 1\n"]
    )
