"""A service's gRPC server: health, reflection, ordered stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import faulthandler
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any, NoReturn

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY, CollectorRegistry

from glimpse.errors import UnusableCredentials
from glimpse.transport.host_port import is_loopback
from services.common import listeners, memory, telemetry, tracing
from services.common.admission import Admission
from services.common.auth import Authenticator
from services.common.certificates import CertificateCollector
from services.common.event_loop import lag_metric, watch_lag
from services.common.health import HealthServicer
from services.common.interceptors import CallInterceptor
from services.common.raw_output import logged_raw_output
from services.common.reflection import add_reflection
from services.common.settings import ServiceSettings
from services.common.threads import hand_over_soon
from services.common.tls import server_credentials
from services.common.unknown_settings import unknown_settings

LIVENESS = "liveness"
"""Health name that is SERVING as long as the process answers at all."""

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

_REFUSING_S = 0.2
_LONG_S = 86_400.0

log = logging.getLogger(__name__)


class StartFailure(Exception):
    """The service cannot start; the message is the one line that is printed, the exit code is 2."""


class Server:
    """One service's server; owned by the event loop that made it.

    Stop order: health says NOT_SERVING, and for `drain_s` calls are served on while callers find
    other replicas; then new calls are refused as UNAVAILABLE, `on_stop` tells long calls to end,
    and running ones get `grace_s`; the owner closes what the calls stood on, and the process ends,
    with it the connections.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        service_names: Sequence[str],
        registry: CollectorRegistry = REGISTRY,
        max_streams_per_caller: int = 0,
    ) -> None:
        self._settings = settings
        self._service_names = tuple(service_names)
        self._registry = registry
        self._health = HealthServicer()
        self._stop = asyncio.Event()
        self._exit_code = 0
        self._lag_s = lag_metric(registry)
        self._jobs: set[asyncio.Task[None]] = set()
        self._certificates = CertificateCollector(settings)
        admission = Admission(
            settings.max_in_flight,
            settings.max_in_flight_per_caller,
            max_streams_per_caller,
            settings.max_waiting_bytes,
        )
        self._calls = CallInterceptor(
            telemetry.RpcMetrics(registry),
            _authenticator(settings),
            admission,
            settings.default_timeout_s,
        )
        self.grpc = grpc.aio.server(interceptors=[self._calls], options=_options(settings))
        self._probes = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self.health_port = 0
        """The port of `health_listen`, once started."""
        self.metrics_port = 0
        """The port of `metrics_listen`, once started."""
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._probes)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        if settings.reflection:
            add_reflection((*self._service_names, health.SERVICE_NAME), self.grpc)
        if settings.channelz:
            from grpc_channelz.v1 import channelz  # a package that most never need

            channelz.add_channelz_servicer(self.grpc)

    async def start(self) -> int:
        """Binds, answers health checks (not yet SERVING), returns the port.

        Raises StartFailure or UnusableCredentials.
        """
        settings = self._settings
        with self._opening("LISTEN", settings.listen):
            port = listeners.bind(self.grpc, settings.listen, server_credentials(settings))
        if settings.health_listen is not None:
            with self._opening("HEALTH_LISTEN", settings.health_listen):
                self.health_port = listeners.bind(self._probes, settings.health_listen)
        self._certificates.log_expiry()
        self._registry.register(self._certificates)
        with self._opening("METRICS_LISTEN", settings.metrics_listen):
            self.metrics_port = listeners.serve_metrics(settings.metrics_listen, self._registry)
        await self.set_serving(False)
        await self._health.set(LIVENESS, _SERVING)
        await self.grpc.start()
        if self.health_port:
            await self._probes.start()
        log.info("listening on %s:%d", settings.listen.rpartition(":")[0], port)
        if not (
            settings.tls_client_ca_file or settings.tokens_file or is_loopback(settings.listen)
        ):
            log.warning("callers are not authenticated: anyone who can reach the port can call")
        return port

    async def set_serving(self, serving: bool) -> None:
        """Sets the health of the service's names; "" stands for all of them."""
        if serving and not gc.get_freeze_count():
            calm_garbage_collector()
        for name in ("", *self._service_names):
            await self._health.set(name, _SERVING if serving else _NOT_SERVING)

    def fail(self, why: str) -> None:
        """Asks for a stop with exit code 1: the process is of no use. Loop's thread only."""
        log.error("stopping: %s", why)
        self._exit_code = 1
        self._stop.set()

    def supervise(self, job: Coroutine[Any, Any, None], what: str) -> None:
        """Runs `job` beside the calls until the stop; if it raises, the service ends with it.

        A loop that has died unseen, such as that which sets the health, leaves a service that
        looks well and is not.
        """
        task = asyncio.create_task(job, name=what)
        self._jobs.add(task)
        task.add_done_callback(self._job_ended)

    def _job_ended(self, task: asyncio.Task[None]) -> None:
        self._jobs.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)
            self.fail(f"{task.get_name()} failed: {error!r}")

    async def run(
        self, *close: Callable[[], Awaitable[None]], on_stop: Callable[[], None] | None = None
    ) -> int:
        """Serves until SIGTERM, SIGINT or fail(); then stops in order, `close` last and in turn.

        Returns the process's exit code; the process has to end with it. gRPC's own stop would
        cancel the calls that have reached it and that it has not handed out, and nobody tries a
        CANCELLED call again. With the end of the process they become UNAVAILABLE.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        self.supervise(watch_lag(self._lag_s), "watching the event loop")
        self.supervise(self._watch_grpc(), "gRPC's server")
        self.supervise(self._certificates.watch(), "watching certificates")
        await self._stop.wait()
        log.info("stopping")
        jobs = tuple(self._jobs)
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        await self._health.enter_graceful_shutdown()
        if self._exit_code == 0:
            await asyncio.sleep(self._settings.drain_s)
        self._health.end_watches()
        self._calls.refuse_calls()
        if on_stop is not None:
            on_stop()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._calls.wait_until_idle(), self._settings.grace_s)
        # Calls that have reached gRPC meanwhile get an answer, too, and with it when to try again.
        await asyncio.sleep(min(_REFUSING_S, self._settings.grace_s))
        for step in close:
            with contextlib.suppress(asyncio.CancelledError):
                await step()
        log.info("stopped")
        # The loop holds it until the process ends: gRPC stops a server that nobody refers to.
        loop.call_later(_LONG_S, lambda: self)
        return self._exit_code

    async def _watch_grpc(self) -> None:
        """Raises what has ended gRPC's server: the process would live on and answer nobody.

        A method's name that is no UTF-8 does so, which anybody can send who reaches the port.
        """
        while await self.grpc.wait_for_termination(_LONG_S):
            pass

    async def stop(self, grace_s: float | None) -> None:
        """Refuses new calls and gives running ones `grace_s`; probes are answered to the end."""
        await self.grpc.stop(grace_s)
        await self._probes.stop(None)

    @contextlib.contextmanager
    def _opening(self, setting: str, address: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            why = "the port is in use" if taken else error.strerror or str(error)
            raise StartFailure(
                f"{self._settings.prefix()}{setting}: cannot listen on {address}: {why}"
            ) from None


def run_service(
    settings: ServiceSettings, main: Callable[[], Coroutine[Any, Any, int]]
) -> NoReturn:
    """Sets up logs, runs a service's main, ends the process with its exit code; 2: cannot start."""
    raw_output = logged_raw_output() if settings.log_format == "json" else contextlib.nullcontext()
    memory.give_back_often()
    hand_over_soon()
    with raw_output:
        telemetry.set_up_logs(settings.log_level, settings.log_format, settings.service)
        faulthandler.enable()  # what a crash of the interpreter leaves behind the log's last line
        log.info("settings", extra={"settings": settings.effective()})
        for line in unknown_settings(type(settings), os.environ):
            log.warning(line)
        flush_traces = tracing.set_up(settings)
        try:
            # Without the end of the loop, which would cancel the calls that are still refused.
            loop = asyncio.new_event_loop()
            exit_code = loop.run_until_complete(main())
        except (StartFailure, UnusableCredentials) as failure:
            print(f"{settings.service}: {failure}", file=sys.stderr)
            exit_code = 2
        except KeyboardInterrupt:
            exit_code = 130
        except Exception:
            log.critical("the service ends on an error that nobody foresaw", exc_info=True)
            exit_code = 1
        finally:
            flush_traces()
    logging.shutdown()
    with contextlib.suppress(OSError):  # such as a full disk
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(exit_code)


def calm_garbage_collector() -> None:
    """Keeps collections short, in a process that has made what it keeps.

    Looking through everything that importing made takes 55 ms each time, in which no call moves on.
    What is new is looked through by 10,000 objects, in 2 to 10 ms; what has lived through that,
    mostly images and calls under way, a hundred times as seldom.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 100, 20)


def _authenticator(settings: ServiceSettings) -> Authenticator | None:
    if settings.tokens_file is None:
        return None
    return Authenticator(settings.tokens_file, f"{settings.prefix()}TOKENS_FILE")


def _options(settings: ServiceSettings) -> list[tuple[str, int]]:
    options = [
        # Two processes on one port would share its callers silently.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.max_metadata_size", settings.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_metadata_bytes),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ]
    if settings.max_calls_per_connection:
        options.append(("grpc.max_concurrent_streams", settings.max_calls_per_connection))
    if settings.max_connection_age_s:
        age_ms = int(settings.max_connection_age_s * 1000)
        options += [
            ("grpc.max_connection_age_ms", age_ms),
            ("grpc.max_connection_age_grace_ms", int(settings.grace_s * 1000)),
        ]
    return options
