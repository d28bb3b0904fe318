"""The official OpenAI SDK for Python, unmodified, against a gateway: only the address and the key are changed.

MIMEO_BASE_URL   the gateway, with /v1
MIMEO_API_KEY    a key of the gateway
MIMEO_SANDBOX    the simulated provider behind it, whose invoice book says what was really paid
"""

import json
import os
import struct
import sys
import time
import traceback
import urllib.request
import zlib
from decimal import Decimal

import openai

BASE_URL = os.environ["MIMEO_BASE_URL"]
SANDBOX = os.environ["MIMEO_SANDBOX"]
MODEL = "openai/gpt-image-2"
PNG, JPEG, WEBP = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF"

client = openai.OpenAI(base_url=BASE_URL, api_key=os.environ["MIMEO_API_KEY"])


# --- what the checks lean on ---


def get(url):
    with urllib.request.urlopen(url, timeout=30) as response:
        return response.headers, response.read()


def bills(prompt):
    """The lines of the invoice book for this prompt."""
    _, body = get(f"{SANDBOX}/control/book")
    return [line for line in json.loads(body)["lines"] if line["prompt"] == prompt]


def decoded(item):
    import base64

    return base64.b64decode(item.b64_json, validate=True)


def pixels(png):
    assert png.startswith(PNG), png[:16]
    return struct.unpack(">II", png[16:24])


def painted(width, height, rgba):
    """A PNG of one colour."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + bytes(rgba) * width
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return PNG + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * height)) + chunk(b"IEND", b"")


def raises(kind, call):
    try:
        call()
    except kind as error:
        assert type(error) is kind, f"{type(error).__name__} is not {kind.__name__} itself"
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def headers_of(raw):
    return {name.lower(): value for name, value in raw.headers.items()}


# --- generations ---


def generate_base64():
    prompt = "python: a red kite"
    image = client.images.generate(model=MODEL, prompt=prompt, size="1024x1024", quality="low")
    assert len(image.data) == 1
    assert pixels(decoded(image.data[0])) == (1024, 1024)
    assert image.data[0].url is None
    assert abs(image.created - time.time()) < 120
    assert (image.size, image.quality, image.output_format) == ("1024x1024", "low", "png")
    line = bills(prompt)[0]
    assert image.usage.output_tokens == line["usage"]["output_tokens"], image.usage
    assert image.usage.total_tokens == image.usage.input_tokens + image.usage.output_tokens
    assert image.usage.input_tokens_details.text_tokens == image.usage.input_tokens
    assert line["quality"] == "low"


def generate_url():
    image = client.images.generate(
        model="compatible/any-name", prompt="python: an address", size="256x256", response_format="url"
    )
    assert image.data[0].b64_json is None
    headers, body = get(image.data[0].url)
    assert headers["content-type"] == "image/png"
    assert pixels(body) == (256, 256)


def generate_url_of_a_model_that_has_none():
    # Every model answers with an address here, whatever its provider does.
    image = client.images.generate(model=MODEL, prompt="python: an address too", quality="low", response_format="url")
    _, body = get(image.data[0].url)
    assert body.startswith(PNG)


def generate_several():
    prompt = "python: two kites"
    image = client.images.generate(model=MODEL, prompt=prompt, n=2, quality="low", size="1024x1024")
    first, second = (decoded(item) for item in image.data)
    assert first != second
    assert [line["n"] for line in bills(prompt)] == [2]
    one = client.images.generate(model=MODEL, prompt=prompt, quality="low", size="1024x1024")
    assert decoded(one.data[0]) == first
    assert len(bills(prompt)) == 1


def generate_jpeg():
    image = client.images.generate(
        model=MODEL,
        prompt="python: a jpeg",
        size="1536x1024",
        quality="medium",
        background="opaque",
        output_format="jpeg",
        output_compression=60,
        moderation="low",
        user="somebody",
    )
    assert decoded(image.data[0]).startswith(JPEG)
    assert (image.output_format, image.size, image.background) == ("jpeg", "1536x1024", "opaque")


def generate_transparent_webp():
    image = client.images.generate(
        model=MODEL, prompt="python: a webp", quality="low", background="transparent", output_format="webp"
    )
    assert decoded(image.data[0]).startswith(WEBP)
    assert image.background == "transparent"


def auto_is_the_default():
    prompt = "python: auto everything"
    asked = {"model": MODEL, "prompt": prompt}
    first = client.images.generate(**asked)
    second = client.images.generate(
        **asked, n=1, size="auto", quality="auto", background="auto", moderation="auto", output_format="png"
    )
    assert decoded(first.data[0]) == decoded(second.data[0])
    assert len(bills(prompt)) == 1


# --- what Mimeo adds, sent with extra_body ---


def extra_template():
    data = {"title": "Drawn here", "author": "Ada Lovelace", "tag": "Engineering"}
    # The SDK insists on a prompt; a template needs none, so it is empty.
    raw = client.images.with_raw_response.generate(
        prompt="", size="1200x630", extra_body={"template": "article", "data": data}
    )
    image, headers = raw.parse(), headers_of(raw)
    assert pixels(decoded(image.data[0])) == (1200, 630)
    assert headers["x-mimeo-provider"] == "template"
    assert headers["x-mimeo-model"] == "article"
    assert headers["x-mimeo-cost-usd"] == "0"


def extra_cache():
    prompt = "python: the cache"
    asked = {"model": "sandbox/standard", "prompt": prompt, "size": "64x64"}
    first = client.images.generate(**asked)
    fresh = client.images.with_raw_response.generate(**asked, extra_body={"cache": {"mode": "no-cache"}})
    assert headers_of(fresh)["x-mimeo-cache"] == "bypass"
    assert decoded(fresh.parse().data[0]) != decoded(first.data[0])
    assert len(bills(prompt)) == 2
    kept = client.images.generate(**asked, extra_body={"cache": {"mode": "only-if-cached"}})
    assert decoded(kept.data[0]) == decoded(fresh.parse().data[0])


def extra_explain_and_metadata():
    image = client.images.generate(
        model="two",
        prompt="python: why",
        size="64x64",
        extra_body={
            "explain": True,
            "metadata": {"order": "17"},
            "purpose": "python",
            "seed": 7,
            "steps": 4,
            "max_spend_usd": "0.5",
            "deadline_ms": 30000,
        },
    )
    account = image.mimeo if hasattr(image, "mimeo") else image.model_extra["mimeo"]
    assert account["cache"] == "miss"
    assert account["provider"] == "sandbox"
    assert account["cost_usd"] == "0.01"
    assert account["simulated"] is True
    assert any("sandbox/standard" in line for line in account["explain"]), account["explain"]


# --- edits ---


def edit_one():
    prompt = "python: make it night"
    image = client.images.edit(
        model=MODEL, image=("kite.png", painted(64, 64, (200, 30, 30, 255))), prompt=prompt, size="1024x1024", quality="low"
    )
    assert pixels(decoded(image.data[0])) == (1024, 1024)
    (line,) = bills(prompt)
    assert line["operation"] == "edit"
    assert image.usage.input_tokens_details.image_tokens > 0


def edit_several():
    prompt = "python: put them together"
    pictures = [
        ("one.png", painted(64, 64, (200, 30, 30, 255))),
        ("two.png", painted(32, 48, (30, 30, 200, 255))),
        ("three.png", painted(48, 48, (30, 200, 30, 255)), "image/png"),
    ]
    asked = {"model": MODEL, "prompt": prompt, "quality": "low", "size": "1024x1024"}
    first = client.images.edit(image=pictures, **asked)
    again = client.images.with_raw_response.edit(image=pictures, **asked)
    assert headers_of(again)["x-mimeo-cache"] == "hit"
    assert decoded(again.parse().data[0]) == decoded(first.data[0])
    # Their order counts.
    turned = client.images.with_raw_response.edit(image=pictures[::-1], **asked)
    assert headers_of(turned)["x-mimeo-cache"] == "miss"
    assert len(bills(prompt)) == 2


def edit_with_mask():
    prompt = "python: only the sky"
    image = client.images.edit(
        model=MODEL,
        image=painted(64, 64, (10, 200, 30, 255)),
        mask=painted(64, 64, (0, 0, 0, 0)),
        prompt=prompt,
        quality="low",
        n=2,
        extra_body={"metadata": {"order": "18"}},
    )
    assert len(image.data) == 2
    error = raises(
        openai.BadRequestError,
        lambda: client.images.edit(
            model=MODEL,
            image=painted(64, 64, (10, 200, 30, 255)),
            mask=painted(32, 32, (0, 0, 0, 0)),
            prompt=prompt,
        ),
    )
    assert error.param == "mask", error.body
    assert "32x32" in error.message and "64x64" in error.message
    assert len(bills(prompt)) == 1


# --- streams ---


def check_stream(events, family):
    kinds = [event.type for event in events]
    assert kinds == [f"{family}.partial_image"] * 2 + [f"{family}.completed"], kinds
    assert [event.partial_image_index for event in events[:-1]] == [0, 1]
    for event in events:
        assert decoded(event).startswith(PNG)
        assert (event.size, event.output_format) == ("1024x1024", "png")
        assert event.created_at > 0
    usage = events[-1].usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens > 0
    assert usage.input_tokens_details is not None


def stream_generation():
    prompt = "python: watch it grow [[latency=300]]"
    asked = {"model": MODEL, "prompt": prompt, "size": "1024x1024", "quality": "low", "stream": True}
    events = list(client.images.generate(**asked, partial_images=2))
    check_stream(events, "image_generation")
    # What is stored is streamed as well, whole.
    (only,) = client.images.generate(**asked, partial_images=2)
    assert only.type == "image_generation.completed"
    assert decoded(only) == decoded(events[-1])
    assert only.usage == events[-1].usage
    assert len(bills(prompt)) == 1


def stream_edit():
    prompt = "python: watch it change"
    events = list(
        client.images.edit(
            model=MODEL,
            image=("kite.png", painted(64, 64, (1, 2, 3, 255))),
            prompt=prompt,
            size="1024x1024",
            quality="low",
            stream=True,
            partial_images=2,
        )
    )
    check_stream(events, "image_edit")
    assert len(bills(prompt)) == 1


def stream_of_what_fails():
    asked = {"model": MODEL, "quality": "low", "stream": True, "partial_images": 1}
    error = raises(
        openai.BadRequestError, lambda: list(client.images.generate(prompt="python: refused [[refuse]]", **asked))
    )
    assert error.code == "moderation_blocked"
    # After the first event the status is out; the SDK raises what the stream says.
    try:
        list(client.images.generate(prompt="python: it breaks [[stream-error]][[latency=100]]", **asked))
    except openai.APIError:
        pass
    else:
        raise AssertionError("the error in the stream was lost")


# --- models ---


def models_list():
    models = {model.id: model for model in client.models.list()}
    for name in [MODEL, "sandbox/standard", "two", "template/article"]:
        assert name in models, sorted(models)
    assert models[MODEL].object == "model"
    assert models["two"].owned_by == "route"


def models_retrieve():
    for name in [MODEL, "two", "template/article"]:
        assert client.models.retrieve(name).id == name
    error = raises(openai.NotFoundError, lambda: client.models.retrieve("no/such"))
    assert error.code == "model_not_found"


# --- errors ---


def error_bad_request():
    def ask(**more):
        return lambda: client.images.generate(**{"model": MODEL, "prompt": "python: bad", **more})

    for more, param, code in [
        ({"size": "9000x9000"}, "size", "invalid_value"),
        ({"n": 11}, "n", "invalid_value"),
        ({"quality": "superb"}, "quality", "invalid_value"),
        ({"prompt": ""}, "prompt", None),
        ({"extra_body": {"sise": "1024x1024"}}, "sise", "unknown_parameter"),
        ({"extra_body": {"cache": {"mode": "sometimes"}}}, "cache.mode", "invalid_value"),
    ]:
        error = raises(openai.BadRequestError, ask(**more))
        assert error.status_code == 400
        assert error.param == param, (error.param, param)
        assert code is None or error.code == code, (error.code, code)
        assert error.type == "invalid_request_error"
        assert error.request_id.startswith("req_"), error.request_id
    assert not bills("python: bad")


def error_refused():
    prompt = "python: something bad [[refuse]]"
    error = raises(openai.BadRequestError, lambda: client.images.generate(model=MODEL, prompt=prompt))
    assert error.code == "moderation_blocked"
    assert not bills(prompt)


def error_authentication():
    stranger = client.with_options(api_key="sk-wrong")
    for call in [
        lambda: stranger.images.generate(model=MODEL, prompt="python: stranger"),
        lambda: stranger.images.edit(model=MODEL, prompt="python: stranger", image=painted(8, 8, (0, 0, 0, 255))),
        lambda: stranger.models.list(),
    ]:
        error = raises(openai.AuthenticationError, call)
        assert error.code == "invalid_api_key"
    assert not bills("python: stranger")


def error_not_found():
    error = raises(
        openai.NotFoundError, lambda: client.images.generate(model="openai/gpt-image-22", prompt="python: nobody")
    )
    assert (error.code, error.param) == ("model_not_found", "model")
    assert "gpt-image-2" in error.message


def error_rate_limit():
    prompt = "python: too fast [[throttle=0.02]]"
    error = raises(
        openai.RateLimitError,
        lambda: client.with_options(max_retries=0).images.generate(model=MODEL, prompt=prompt),
    )
    assert error.code == "rate_limit_exceeded"
    assert not bills(prompt)
    # One refusal, and the SDK's own repetition gets through.
    prompt = "python: once too fast [[throttle=0.02*1]]"
    client.images.generate(model=MODEL, prompt=prompt, quality="low")
    assert len(bills(prompt)) == 1


def error_over_budget():
    prompt = "python: too dear"
    error = raises(
        openai.RateLimitError,
        lambda: client.images.generate(
            model="sandbox/premium", prompt=prompt, size="64x64", extra_body={"max_spend_usd": "0.03"}
        ),
    )
    assert (error.code, error.type) == ("max_spend_exceeded", "insufficient_quota")
    assert not bills(prompt)


def unknown_outcome_is_not_repeated():
    for n, fault in enumerate(["bill-then-fail=504", "bill-then-reset", "garbage-json"]):
        prompt = f"python: lost {n} [[{fault}]]"
        error = raises(
            openai.InternalServerError,
            lambda: client.with_options(max_retries=4).images.generate(model=MODEL, prompt=prompt, quality="low"),
        )
        assert (error.status_code, error.code) == (504, "outcome_unknown"), error.body
        assert len(bills(prompt)) == 1, f"{fault}: paid {len(bills(prompt))} times"


def a_deadline_is_repeated_for_free():
    # The SDK repeats this by itself, joins the work under way, and nothing is paid twice.
    prompt = "python: slowly [[latency=900]]"
    image = client.with_options(max_retries=8).images.generate(
        model="sandbox/standard", prompt=prompt, size="64x64", extra_body={"deadline_ms": 250}
    )
    assert decoded(image.data[0]).startswith(PNG)
    assert len(bills(prompt)) == 1


# --- what a hit costs ---


def a_hit_costs_nothing():
    prompt = "python: the account"
    ask = lambda: client.images.with_raw_response.generate(model=MODEL, prompt=prompt, size="1024x1024", quality="low")
    miss, hit = ask(), ask()
    (line,) = bills(prompt)
    before, after = headers_of(miss), headers_of(hit)
    assert (before["x-mimeo-cache"], after["x-mimeo-cache"]) == ("miss", "hit")
    assert Decimal(before["x-mimeo-cost-usd"]) == Decimal(line["usd"])
    assert (after["x-mimeo-cost-usd"], after["x-mimeo-saved-usd"]) == ("0", before["x-mimeo-cost-usd"])
    assert before["x-mimeo-provider"] == after["x-mimeo-provider"] == "openai"
    assert before["x-mimeo-model"] == after["x-mimeo-model"] == "gpt-image-2"
    assert before["x-request-id"] != after["x-request-id"]
    first, second = miss.parse(), hit.parse()
    assert first.usage == second.usage and first.usage is not None
    assert decoded(first.data[0]) == decoded(second.data[0])


def asynchronous():
    import asyncio

    async def crowd():
        async with openai.AsyncOpenAI(base_url=BASE_URL, api_key=client.api_key) as many:
            ask = lambda: many.images.generate(model="sandbox/standard", prompt=prompt, size="64x64")
            return await asyncio.gather(*(ask() for _ in range(20)))

    prompt = "python: twenty at once [[latency=150]]"
    pictures = {image.data[0].b64_json for image in asyncio.run(crowd())}
    assert len(pictures) == 1
    assert len(bills(prompt)) == 1


CHECKS = [
    generate_base64,
    generate_url,
    generate_url_of_a_model_that_has_none,
    generate_several,
    generate_jpeg,
    generate_transparent_webp,
    auto_is_the_default,
    extra_template,
    extra_cache,
    extra_explain_and_metadata,
    edit_one,
    edit_several,
    edit_with_mask,
    stream_generation,
    stream_edit,
    stream_of_what_fails,
    models_list,
    models_retrieve,
    error_bad_request,
    error_refused,
    error_authentication,
    error_not_found,
    error_rate_limit,
    error_over_budget,
    unknown_outcome_is_not_repeated,
    a_deadline_is_repeated_for_free,
    a_hit_costs_nothing,
    asynchronous,
]


def main():
    failed = 0
    for check in CHECKS:
        started = time.monotonic()
        try:
            check()
        except Exception:
            failed += 1
            print(f"FAILED {check.__name__}", flush=True)
            traceback.print_exc(file=sys.stdout)
        else:
            print(f"ok {check.__name__} ({time.monotonic() - started:.2f} s)", flush=True)
    print(f"openai {openai.__version__}, Python {sys.version.split()[0]}")
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
