"""What the API server answers to a request. Knows nothing of connections."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, final

import attrs

from inferencepool.errors import Issue
from inferencepool.lab.apiserver import _refusals as refusals
from inferencepool.lab.apiserver._access import Access
from inferencepool.lab.apiserver._actions import bind_pod, request_token
from inferencepool.lab.apiserver._catalog import Catalog
from inferencepool.lab.apiserver._faults import Answer
from inferencepool.lab.apiserver._forms import Form, read_form
from inferencepool.lab.apiserver._listing import list_objects
from inferencepool.lab.apiserver._ownership import Manager
from inferencepool.lab.apiserver._patching import APPLY_TYPES, patch_types
from inferencepool.lab.apiserver._refusals import RefusedError
from inferencepool.lab.apiserver._requests import ApiRequest, find_target
from inferencepool.lab.apiserver._resources import Document, Resource
from inferencepool.lab.apiserver._reviews import answer_review, is_review
from inferencepool.lab.apiserver._selectors import Scope, read_scope
from inferencepool.lab.apiserver._start_up import StartUp
from inferencepool.lab.apiserver._store import Key, ObjectStore, encode
from inferencepool.lab.apiserver._watching import Watch, WatchRules, open_watch
from inferencepool.lab.apiserver._write_rules import DeleteOptions
from inferencepool.lab.apiserver._writing import ObjectWriter

__all__ = ["Api"]

_LOG = logging.getLogger(__name__)
_HEALTH = ("/healthz", "/livez", "/readyz")


@final
class Api:
    """
    Turns requests into answers. Called on the server's loop; the store it works on is shared with other threads.

    Attributes:
        store: The objects.
        writer: Writes them.
        catalog: What is served.
        access: Who may.
        rules: How watches are treated.
        start_up: What is refused just after the start.
        clock: Tells the seconds since 1970.
    """

    def __init__(
        self,
        store: ObjectStore,
        writer: ObjectWriter,
        catalog: Catalog,
        access: Access,
        rules: WatchRules,
        start_up: StartUp,
        clock: Callable[[], float],
    ) -> None:
        """Serve what the others hold."""
        self.start_up = start_up
        self.clock = clock
        self.store = store
        self.writer = writer
        self.catalog = catalog
        self.access = access
        self.rules = rules

    def answer(self, request: ApiRequest, address: str, on_item: Callable[[], None]) -> Answer | Watch:
        """
        Answer *request*, which came to *address*; *on_item* is for the watch if it is one.

        Never raises: refusals are answers, and so are mistakes of this server, which it logs.
        """
        try:
            return self._answer(request, address, on_item)
        except RefusedError as refusal:
            return Answer.refusal(refusal)
        except Exception:  # noqa: BLE001 - a client must not hang because of it
            _LOG.exception("%s %s", request.method, request.path)
            message = "Internal error occurred: a mistake of this server"
            return Answer.refusal(refusals.make(500, "InternalError", message))

    def _answer(self, request: ApiRequest, address: str, on_item: Callable[[], None]) -> Answer | Watch:
        user = self.access.user(request)
        if not request.target.plural:
            self.access.check(user, request, None)
            return self._answer_path(request, address)
        resource = find_target(self.catalog, request)
        self.start_up.check(user, request, resource)
        self.access.check(user, request, resource)
        form = read_form(request, resource, self.clock)
        if is_review(resource):
            return _encoded(answer_review(self.access, user, resource, request.options()), 201)
        if request.query.get("dryRun"):
            message = "dryRun: this API server for tests carries out what it checks"
            raise refusals.bad_request(message)
        if request.target.subresource in resource.actions:
            return self._act(resource, request)
        return self._answer_resource(resource, request, form, on_item)

    def _answer_path(self, request: ApiRequest, address: str) -> Answer:
        if request.path in _HEALTH:
            return Answer(body=b"ok", content_type="text/plain; charset=utf-8")
        read_form(request, None, self.clock)
        document = self.catalog.document(request.path, address)
        if document is None:
            return Answer(status=404, body=b"404 page not found\n", content_type="text/plain; charset=utf-8")
        return Answer.of(document)

    def _act(self, resource: Resource, request: ApiRequest) -> Answer:
        if request.target.subresource == "binding":
            binding = request.options()
            return _encoded(bind_pod(self.writer, self.store, resource, _key(request), binding), 201)
        return _encoded(request_token(self.access, self.store, resource, request, self.clock), 201)

    def _answer_resource(
        self, resource: Resource, request: ApiRequest, form: Form, on_item: Callable[[], None]
    ) -> Answer | Watch:
        match request.verb:
            case "list":
                return _encoded(form.render(list_objects(self.store, resource, _scope(resource, request), request)))
            case "watch":
                scope = _scope(resource, request)
                return open_watch(self.store, resource, scope, request, rules=self.rules, form=form, on_item=on_item)
            case "deletecollection":
                return self._delete_all(resource, request)
            case "create":
                return self._create(resource, request, form)
            case _:
                return self._answer_object(resource, _key(request), request, form)

    def _answer_object(self, resource: Resource, key: Key, request: ApiRequest, form: Form) -> Answer:
        match request.verb:
            case "delete":
                return self._delete(resource, request)
            case "patch":
                return self._patch(resource, request, form)
            case "update":
                made = self.writer.update(resource, key, request.document(), manager=_manager(request))
                return _encoded(form.render(made.document))
            case _:
                found = self.store.get(resource, key)
                if found is None:
                    raise refusals.not_found(resource, key[1])
                return _encoded(form.render(found.document))

    def _create(self, resource: Resource, request: ApiRequest, form: Form) -> Answer:
        namespace = request.target.namespace
        if resource.namespaced and not namespace:
            raise refusals.method_not_allowed(resource)
        made = self.writer.create(resource, namespace, request.document(), manager=_manager(request))
        return _encoded(form.render(made.document), 201)

    def _patch(self, resource: Resource, request: ApiRequest, form: Form) -> Answer:
        kind, key = request.content_type, _key(request)
        if kind not in patch_types(resource):
            raise refusals.unsupported_media_type(patch_types(resource))
        if kind not in APPLY_TYPES:
            if request.flag("force"):
                issue = Issue("force", "Forbidden: may not be specified for non-apply patch")
                raise refusals.invalid(None, "", [issue])
            patched = self.writer.patch(resource, key, kind, request.json(), manager=_manager(request))
            return _encoded(form.render(patched.document))
        if not request.query.get("fieldManager"):
            issue = Issue("fieldManager", "Required value: is required for apply patch")
            raise refusals.invalid(None, "", [issue])
        manager = attrs.evolve(_manager(request), operation="Apply")
        made, created = self.writer.apply(
            resource, key, request.document(), manager=manager, force=request.flag("force")
        )
        return _encoded(form.render(made.document), 201 if created else 200)

    def _delete(self, resource: Resource, request: ApiRequest) -> Answer:
        key = _key(request)
        left, gone = self.writer.delete(resource, key, _delete_options(request))
        if not gone or resource.plural == "pods":
            return _encoded(left.document)
        details: Document = {"name": key[1], "kind": resource.plural, "uid": left.document["metadata"]["uid"]}
        if resource.group:
            details["group"] = resource.group
        return _encoded({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})

    def _delete_all(self, resource: Resource, request: ApiRequest) -> Answer:
        with self.store.locked():
            listed = list_objects(self.store, resource, _scope(resource, request), request)
            for item in listed["items"]:
                metadata = item["metadata"]
                key = (metadata.get("namespace", ""), metadata["name"])
                self.writer.delete(resource, key, _delete_options(request))
        return _encoded(listed)


def _encoded(document: Document, status: int = 200) -> Answer:
    return Answer(status=status, body=encode(document) + b"\n")


def _key(request: ApiRequest) -> Key:
    return (request.target.namespace, request.target.name)


def _scope(resource: Resource, request: ApiRequest) -> Scope:
    target, query = request.target, request.query
    fields = query.get("fieldSelector", "")
    if target.name:
        fields = f"metadata.name={target.name}"
    return read_scope(resource, target.namespace, query.get("labelSelector", ""), fields)


def _manager(request: ApiRequest) -> Manager:
    program = request.headers.get("user-agent", "").partition("/")[0]
    return Manager(
        name=request.query.get("fieldManager") or program or "unknown", subresource=request.target.subresource
    )


def _delete_options(request: ApiRequest) -> DeleteOptions:
    options = request.options()
    preconditions = options.get("preconditions") or {}
    grace: Any = request.query.get("gracePeriodSeconds", options.get("gracePeriodSeconds"))
    try:
        return DeleteOptions(
            grace_period=None if grace is None else int(grace),
            uid=preconditions.get("uid"),
            revision=preconditions.get("resourceVersion"),
        )
    except ValueError:
        message = f"gracePeriodSeconds: {grace!r} is not a whole number"
        raise refusals.bad_request(message) from None
