"""`ApiServer`: a Kubernetes API server for tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, Unpack, final

from inferencepool.errors import ConfigurationError
from inferencepool.lab.apiserver import _refusals as refusals
from inferencepool.lab.apiserver._access import ADMIN, Access, service_account_name
from inferencepool.lab.apiserver._accounts import Account, write_role
from inferencepool.lab.apiserver._api import Api
from inferencepool.lab.apiserver._catalog import Catalog
from inferencepool.lab.apiserver._collections import Collection, ObjectLike, Pods, put
from inferencepool.lab.apiserver._extras import (
    certificate_for,
    check_choice,
    check_extra,
    check_least,
    checked_host,
)
from inferencepool.lab.apiserver._faults import ENDINGS, Ending, Fault, Gate
from inferencepool.lab.apiserver._injections import Injection, Injections
from inferencepool.lab.apiserver._log import RequestLog
from inferencepool.lab.apiserver._patterns import Match, Pattern
from inferencepool.lab.apiserver._resources import NAMESPACES, RESOURCES, Document, Resource
from inferencepool.lab.apiserver._service import ApiService
from inferencepool.lab.apiserver._start_up import StartUp
from inferencepool.lab.apiserver._store import Bookmark, ObjectStore
from inferencepool.lab.apiserver._thread import ServerThread
from inferencepool.lab.apiserver._watching import WatchRules
from inferencepool.lab.apiserver._writing import ObjectWriter
from inferencepool.model import join_host_port

__all__ = ["ApiServer", "WatchEnding"]

#: What ends open watches: their end in good order, the news that their version is too old, or a broken connection.
WatchEnding: TypeAlias = Literal["end", "expire"] | Ending


@final
class ApiServer:
    """
    A Kubernetes API server for tests.

    It speaks real HTTP, follows the rules of the real one as far as controllers meet them, and lets go wrong on
    purpose what can go wrong between the two.

    It runs on a thread of its own, so that synchronous and asynchronous tests can use it; everything here may be
    called from any thread. `stop` and `start` keep the port and all objects.

        with ApiServer() as server:
            server.pods.add(make_pod("pod-a", labels={"app": "llama"}))
            kubeconfig = server.kubeconfig(tmp_path / "kubeconfig")
    """

    def __init__(
        self,
        *,
        tls: bool = False,
        host: str = "127.0.0.1",
        port: int = 0,
        resources: Iterable[Resource] = RESOURCES,
        expired: Literal["event", "status"] = "event",
        streaming_lists: bool = True,
        bookmark_interval: float = 60.0,
        history: int = 10_000,
        initializing: int = 1,
        clock: Callable[[], float] = time.time,
        seed: int | None = None,
    ) -> None:
        """
        Prepare a server; `start` starts it.

        Args:
            tls: Serve HTTPS, with a certificate that an authority made for this server signs.
            host: IP address to listen at.
            port: Port to listen at; 0 takes a free one at the first start.
            resources: What is served.
            expired: How a watch from a forgotten resource version ends: refused with the ``status`` 410, or begun and
                told so in an ``event`` of type ERROR. Clients must know both.
            streaming_lists: Whether ``sendInitialEvents`` is allowed.
            bookmark_interval: Seconds between the bookmarks of a watch that asked for them; `send_bookmarks` sends
                them at once.
            history: How many changes of each resource are remembered.
            initializing: How many requests it refuses after each start as the real one does, which has not read its
                objects yet: of each user but `admin` with 403, and of the lists and watches of each resource with 429
                and ``Retry-After: 1``. 0 for none.
            clock: Tells the time, in seconds since 1970, for timestamps.
            seed: Makes uids and generated names repeat.

        Raises:
            ConfigurationError: An argument is not allowed.
        """
        check_choice("expired", expired, ("event", "status"))
        check_least("history", history, 1)
        check_least("bookmark_interval", bookmark_interval, 0.001)
        check_least("initializing", initializing, 0)
        self._host = checked_host(host)
        self._port = port
        self._thread: ServerThread | None = None
        self._store = ObjectStore(history=history)
        self._writer = ObjectWriter(self._store, clock=clock, rng=Random(seed))
        self._known = tuple(resources)
        self._catalog = Catalog(self._known)
        self._access = Access(self._store, self._known)
        self._log = RequestLog()
        self._injections = Injections()
        rules = WatchRules(expired=expired, streaming_lists=streaming_lists)
        self._start_up = StartUp(initializing)
        api = Api(self._store, self._writer, self._catalog, self._access, rules, self._start_up, clock)
        self._service = ApiService(api, self._log, self._injections, bookmark_interval)
        self._certificate = certificate_for(host) if tls else None
        self._admin = Account(self, self._access, ADMIN, "default")
        if NAMESPACES in self._known:
            self.collection("namespaces").add({"metadata": {"name": "default"}})

    def start(self) -> None:
        """
        Listen.

        Raises:
            MissingExtraError: h11 is not installed.
            OSError: The address cannot be bound.
            RuntimeError: It is running already.
        """
        if self._thread is not None:
            message = f"{self!r} is running already"
            raise RuntimeError(message)
        check_extra()
        thread = ServerThread(self._service.connect, f"api server at {self._host}")
        context = self._certificate.context() if self._certificate else None
        self._start_up.begin()
        self._port = thread.start(self._host, self._port, context)
        self._service.address = self.address
        self._thread = thread

    def stop(self, *, how: Literal["close", "reset"] = "close") -> None:
        """
        Close the listener, and close or reset every connection; no effect when it is not running.

        Objects, tokens and faults stay for the next `start`, which takes the same port.

        Raises:
            ConfigurationError: *how* is neither ``close`` nor ``reset``.
        """
        check_choice("stop: how", how, ("close", "reset"))
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop(lambda: self._service.break_all(how), self._service.abort_all)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "" if self._thread else ", not running"
        return f"<ApiServer at {self.url if self._port else self._host}{state}>"

    @property
    def port(self) -> int:
        """
        The port it listens at; the same after every start.

        Raises:
            RuntimeError: It was never started, and no port was chosen.
        """
        if not self._port:
            message = f"{self!r} was never started"
            raise RuntimeError(message)
        return self._port

    @property
    def address(self) -> str:
        """``host:port``, with brackets around IPv6; raises as `port` does."""
        return join_host_port(self._host, self.port)

    @property
    def url(self) -> str:
        """The address as URL; raises as `port` does."""
        return f"{'https' if self._certificate else 'http'}://{self.address}"

    @property
    def authority(self) -> bytes | None:
        """The certificate that clients must trust, as PEM; None without TLS."""
        return self._certificate.authority if self._certificate else None

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables by which a pod finds the server; raises as `port` does."""
        return {"KUBERNETES_SERVICE_HOST": self._host, "KUBERNETES_SERVICE_PORT": str(self.port)}

    @property
    def admin(self) -> Account:
        """The account that may do everything."""
        return self._admin

    def kubeconfig(self, path: str | PathLike[str]) -> Path:
        """Write a kubeconfig for `admin` to *path*; raises as `port` does."""
        return self._admin.write_kubeconfig(path)

    def service_account(
        self, name: str, namespace: str = "default", *, rules: Sequence[Mapping[str, Any]] = ()
    ) -> Account:
        """
        Make a service account, which may do what roles that are bound to it allow, and nothing else.

        With *rules*, a role with them in its namespace is made and bound to it, too, all of the same *name*.
        """
        if self._catalog.find("", "v1", "serviceaccounts") is not None:
            accounts = self.collection("serviceaccounts")
            if accounts.find(name, namespace) is None:
                accounts.add({"metadata": {"name": name, "namespace": namespace}})
        if rules:
            write_role(self, name, namespace, rules)
        return Account(self, self._access, service_account_name(namespace, name), namespace)

    def collection(self, plural: str, group: str | None = None) -> Collection:
        """
        Give the objects of a resource, by its name in paths and, where several have the name, its group.

        Raises:
            ConfigurationError: No resource or several have the name.
        """
        return Collection(self._catalog.named(plural, group), self._store, self._writer)

    @property
    def pods(self) -> Pods:
        """All pods."""
        return Pods(self._catalog.named("pods", ""), self._store, self._writer)

    @property
    def services(self) -> Collection:
        """All services."""
        return self.collection("services", "")

    @property
    def leases(self) -> Collection:
        """All leases."""
        return self.collection("leases")

    @property
    def pools(self) -> Collection:
        """All InferencePools of ``inference.networking.k8s.io/v1``."""
        return self.collection("inferencepools", "inference.networking.k8s.io")

    @property
    def objectives(self) -> Collection:
        """All InferenceObjectives of ``llm-d.ai/v1alpha2``."""
        return self.collection("inferenceobjectives", "llm-d.ai")

    @property
    def rewrites(self) -> Collection:
        """All InferenceModelRewrites of ``llm-d.ai/v1alpha2``."""
        return self.collection("inferencemodelrewrites", "llm-d.ai")

    def apply(self, *objects: ObjectLike) -> list[Document]:
        """
        Create objects of any kind that is served, or replace those of their names.

        Raises:
            ConfigurationError: A kind is not served.
            RefusedError: An object breaks a rule of its kind.
        """
        return [put(each, self._catalog, self._store, self._writer) for each in objects]

    @property
    def revision(self) -> int:
        """The latest resource version."""
        return self._store.revision

    def compact(self) -> int:
        """
        Forget the past; gives the oldest resource version that is known from here on.

        Lists and watches from every version that anybody has are too old then, and so are the tokens of pages. Open
        watches go on.
        """
        return self._store.compact()

    def restore(self, revision: int) -> None:
        """
        Go back to an earlier *revision*, as with a storage that was restored from a backup, and reset all watches.

        Raises:
            RefusedError: 410, that time is forgotten.
        """
        self._store.restore(revision)
        self.end_watches("reset")

    def withdraw(self, group: str) -> None:
        """Serve nothing of an API group any more, as if its definitions were deleted: objects go, watches end."""
        for resource in self._catalog.remove(group):
            self._store.clear(resource)

    def serve(self, *resources: Resource | str) -> None:
        """
        Serve further resources, or again those of a group, by its name, that was withdrawn.

        Raises:
            ConfigurationError: No resource of a group is known.
        """
        for each in resources:
            found = [each] if isinstance(each, Resource) else [known for known in self._known if known.group == each]
            if not found:
                message = f"API server: serve: no resource of the group {each!r} is known"
                raise ConfigurationError(message)
            for resource in found:
                self._catalog.add(resource)

    @property
    def requests(self) -> RequestLog:
        """What was asked of it."""
        return self._log

    def inject(self, fault: Fault, *, times: int | None = 1, skip: int = 0, **match: Unpack[Match]) -> Injection:
        """
        Let *fault* strike the next *times* requests that match (None for all), after *skip* of them.

            server.inject(Fault.too_many_requests(2), verb="list", resource="pods")

        Raises:
            ConfigurationError: *times* is less than 1, or *skip* less than 0.
        """
        check_least("inject: times", 1 if times is None else times, 1)
        check_least("inject: skip", skip, 0)
        return self._injections.add(fault, times=times, skip=skip, match=match)

    def heal(self) -> None:
        """Forget all faults that wait."""
        self._injections.clear()

    @contextmanager
    def partition(self, **match: Unpack[Match]) -> Iterator[None]:
        """
        Cut off the clients whose requests match, for as long as the block lasts.

        New requests wait, unheard, and open watches are silent for good. Requests that still wait at the end are heard
        then.
        """
        gate = Gate()
        with self.inject(Fault(gate=gate), times=None, **match):
            self.end_watches("silence", **match)
            try:
                yield
            finally:
                gate.open()

    def watches(self, **match: Unpack[Match]) -> int:
        """Count the open watches whose requests match; 0 when it is not running."""
        return self._call(lambda: len(self._service.watches(Pattern(**match))))

    def end_watches(self, how: WatchEnding = "end", **match: Unpack[Match]) -> int:
        """
        End the open watches whose requests match; gives their number.

        They end in good order, with the news that their version is too old (``expire``), or with a connection that is
        reset, closed or silent.

        Raises:
            ConfigurationError: *how* is none of these.
        """
        check_choice("end_watches: how", how, ("end", "expire", *ENDINGS))
        pattern = Pattern(**match)
        if how == "end":
            return self._call(lambda: self._service.end_watches(pattern, None))
        if how == "expire":
            error = refusals.expired("The resourceVersion for the provided watch is too old.").document
            return self._call(lambda: self._service.end_watches(pattern, error))
        return self._call(lambda: self._service.break_watches(pattern, how))

    def send_bookmarks(self) -> None:
        """Tell every open watch that asked for bookmarks how far it has come."""
        with self._store.locked():
            self._store.announce(Bookmark(self._store.revision))

    def _call(self, function: Callable[[], int]) -> int:
        thread = self._thread

        async def call() -> int:
            return function()

        return 0 if thread is None else thread.call(call())
