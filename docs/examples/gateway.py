import asyncio
from contextlib import suppress

from aiohttp import ClientError, ClientSession
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from inferencepool import EndpointPicker, InferencePoolError, InferenceRequest, NoEndpointsError, PickResult

AGAIN = {404, 429, 500, 502, 503, 504}  # another endpoint may have the model, or room, or more luck
HOPS = {b"connection", b"content-length", b"host", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"}


class Gateway:
    def __init__(self, picker: EndpointPicker, client: ClientSession, retries: int = 2) -> None:
        self.picker, self.client, self.retries = picker, client, retries

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        # The body is kept whole, so that it can be sent again.
        serving = asyncio.create_task(self.serve(request, await request.body(), send))
        leaving = asyncio.ensure_future(receive())  # behind the body comes nothing but that the client left
        try:
            await asyncio.wait([serving, leaving], return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
        except InferencePoolError as error:
            answer = Response(error.to_json(), error.http_status, media_type="application/json")
            await answer(scope, receive, send)
        finally:
            serving.cancel()
            leaving.cancel()

    async def serve(self, request: Request, body: bytes, send: Send) -> None:
        wanted = InferenceRequest.from_http(request.url.path, request.headers.raw, body)
        result: PickResult | None = self.picker.pick(wanted)
        while result is not None:
            with result as asked:  # over behind this; `cancelled` where something is raised, as when the client leaves
                result = await self.ask(asked, request, body, send)

    async def ask(self, result: PickResult, request: Request, body: bytes, send: Send) -> PickResult | None:
        url = str(request.url.replace(scheme="http", netloc=result.destination))
        headers = [(name.decode(), value.decode("latin-1")) for name, value in request.headers.raw if name not in HOPS]
        may_retry, begun = len(result.excluded) < self.retries, False
        try:
            async with self.client.request(request.method, url, data=body, headers=headers) as answer:
                chunk = await answer.content.readany()
                wait = answer.headers.get("retry-after")
                if answer.status in AGAIN and may_retry:
                    with suppress(NoEndpointsError):  # then the client gets this answer
                        return result.retry(answer.status, retry_after=wait)
                begun = True  # from here on no other endpoint can answer
                if not answer.ok:
                    result.failed(answer.status, retry_after=wait)
                result.started()
                kept = [item for item in answer.raw_headers if item[0].lower() not in HOPS]
                await send({"type": "http.response.start", "status": answer.status, "headers": kept})
                while chunk:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    chunk = await answer.content.readany()
                await send({"type": "http.response.body"})
                return None
        except (ClientError, TimeoutError) as error:
            if may_retry and not begun:
                return result.retry(type(error).__name__)
            result.failed(type(error).__name__)
            raise
