"""Makes attempts: one provider is asked, and whatever comes of it is accounted for."""

from collections.abc import Awaitable, Callable
from functools import partial

from proxy.errors import ProxyError, UpstreamError
from proxy.exchange import Attempt, Exchange, Reply
from proxy.formats.attempts import attempt_lines
from proxy.journey.accounts import Accounts, Open
from proxy.journey.call import Call
from proxy.journey.kit import Kit, MayGoOn
from proxy.journey.outgoing import Outgoing
from proxy.journey.race import Contender, LostRace
from proxy.providers.base import RemoteProvider
from proxy.reload.generation import Generation
from proxy.routing.plan import Step
from proxy.sink import Sink
from proxy.upstream.endpoint import Endpoint

Deliver = Callable[[Generation, Exchange, Sink, Reply, bytes], Awaitable[None]]
"""Sends an answer that was made in this process, with header lines of our own."""


class Attempts:
    """Makes the attempts of all exchanges.

    Args:
        deliver: for providers that answer in this process.
    """

    def __init__(self, kit: Kit, deliver: Deliver) -> None:
        self._kit = kit
        self._deliver = deliver
        self._accounts = Accounts(kit)

    async def ask(
        self,
        generation: Generation,
        exchange: Exchange,
        may_go_on: MayGoOn,
        step: Step,
        sink: Sink,
        contender: Contender | None = None,  # the sink, where two attempts may be made
    ) -> None:
        """Ask one candidate, as `kit.Ask` says. Its provider's slot is held by the caller and is given back here.

        Raises:
            UpstreamError: no usable response, or one that broke off; `sink.is_started` tells which.
            ConnectionError: the client left.
        """
        candidate, kit = step.target.candidate, self._kit
        endpoint = generation.endpoints[candidate.provider]
        one = self._begin(exchange, step, contender)
        failure: ProxyError | None = None
        is_cancelled = True
        call: Call | None = None
        try:
            if (remote := endpoint.remote) is not None and (pool := endpoint.pool) is not None:
                call = self._call(generation, may_go_on, one, endpoint, remote, sink)
                await call.run(pool, generation.settings.server.write_timeout)
                failure = call.passed_on
            elif (local := endpoint.local) is not None:
                told = attempt_lines(exchange, candidate.provider)
                await self._deliver(generation, exchange, sink, local.answer(exchange), told)
            else:
                raise RuntimeError(f"{candidate.provider} is neither local nor remote")
            is_cancelled = False
        except LostRace:
            raise
        except UpstreamError as error:
            failure, is_cancelled = error, False
            error.provider = error.provider or candidate.provider
            error.message = kit.redactor.text(error.message)
            raise
        finally:
            endpoint.slots.release()
            one.health.in_flight -= 1
            if is_cancelled:
                has_lost = contender is not None and contender.has_lost
                self._accounts.cancelled(one, endpoint.stats, has_lost=has_lost, is_unanswered=not sink.is_started)
            elif failure is None:
                self._accounts.succeeded(one, endpoint, None if call is None else call.head)
            else:
                self._accounts.failed(one, endpoint, None if call is None else call.head, failure)

    def _begin(self, exchange: Exchange, step: Step, contender: Contender | None) -> Open:
        """Note everywhere that an attempt begins."""
        target, key = step.target, step.key
        health, candidate = target.health, target.candidate
        now_s = self._kit.clock()
        attempt = Attempt(candidate.provider, candidate.model, now_s)
        if candidate.price is not None:
            attempt.price = candidate.price
        one = Open(exchange, attempt, step, health.begin(target.lane, now_s))
        health.in_flight += 1
        step.begin()
        if one.probes:
            attempt.is_probe = True
            self._kit.news.changed(health.probed(target.lane, one.probes))
        if key is not None:
            attempt.key = key.name
        exchange.attempts.append(attempt)
        if contender is not None:
            contender.attempt = attempt
            attempt.is_hedge = contender.is_hedge
        if not attempt.is_hedge:
            exchange.provider, exchange.attempt = candidate.provider, attempt
            if len(exchange.attempts) > 1:
                exchange.usage = exchange.served_model = exchange.fault = None  # an earlier attempt's, which nobody got
        return one

    def _call(
        self,
        generation: Generation,
        may_go_on: MayGoOn,
        one: Open,
        endpoint: Endpoint,
        remote: RemoteProvider,
        sink: Sink,
    ) -> Call:
        exchange, key = one.exchange, one.step.key
        client_key = None if remote.has_credential or exchange.identity is not None else exchange.caller
        if client_key is not None and not self._may_see_client_key(generation, exchange, remote):
            client_key = None
        if client_key is not None or exchange.request.operation.name == "raw":
            one.is_clients_own = True
        credential = _own_credential(remote) if key is None else key.text
        outgoing = Outgoing(exchange, one.step.target.candidate, endpoint, remote, credential, client_key)
        began = partial(self._accounts.began, one) if one.probes else None
        return Call(outgoing, sink, one.step.target, may_go_on, one.attempt, generation.host.dispatch, self._kit, began)

    @staticmethod
    def _may_see_client_key(generation: Generation, exchange: Exchange, provider: RemoteProvider) -> bool:
        """Tell whether the client's own key is for a provider without any: nobody at another origin could answer.

        A key that could be meant for either of two origins goes to neither; `provider/model` and `/proxy/…` say which.
        """
        for candidate in exchange.rivals:
            other = generation.endpoints[candidate.provider].remote
            if other is not None and other.origin != provider.origin:
                return False
        return True


def _own_credential(remote: RemoteProvider) -> str | None:
    """Choose the credential to send where no key is held any more: the request's own revision may have one."""
    return remote.credentials[0] if remote.credentials else None
