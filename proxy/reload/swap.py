"""Makes everything ready for another revision, and swaps it in at once: requests see the one or the other."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from proxy.config.loader import Loaded
from proxy.host.manager import PluginHost
from proxy.host.transition import Transition
from proxy.pipeline import Pipeline
from proxy.plugin import AdminRoute
from proxy.reload.generation import Generation, Ingredients, build

Ready = Callable[[Loaded, Sequence[AdminRoute]], Awaitable[Callable[[], None]]]
"""Makes the app's side ready for a configuration and the plugins' routes; what it returns puts it in force."""


class Swap:
    """Another revision, ready. Either `commit` and then `finish`, or `undo`."""

    def __init__(
        self, pipeline: Pipeline, generation: Generation, transition: Transition, put_in_force: Callable[[], None]
    ) -> None:
        self._pipeline = pipeline
        self._generation = generation
        self._transition = transition
        self._put_in_force = put_in_force

    def commit(self) -> None:
        """Put it in force, for every request that begins from now on."""
        self._transition.commit()
        self._pipeline.use(self._generation)
        self._put_in_force()

    async def finish(self) -> None:
        """Let go of what was replaced."""
        await self._transition.finish()

    async def undo(self) -> None:
        """Leave everything as it was."""
        await self._transition.undo()


class Swapper:
    """Makes swaps, one at a time.

    Args:
        ready: for what the app itself owns: the server's side, the shared store.
    """

    def __init__(self, pipeline: Pipeline, host: PluginHost, ingredients: Ingredients, ready: Ready) -> None:
        self._pipeline = pipeline
        self._host = host
        self._ingredients = ingredients
        self._ready = ready

    async def prepare(self, revision: int, loaded: Loaded) -> Swap:
        """Make a configuration ready.

        Raises:
            ConfigError: a credential, CA file or plugin refuses it; everything is as before.
        """
        generation = await asyncio.to_thread(
            build, revision, loaded.settings, self._host, self._ingredients, self._pipeline.generation
        )
        transition = await self._host.prepare(loaded.sections)
        try:
            put_in_force = await self._ready(loaded, transition.routes)
        except BaseException:
            await transition.undo()
            raise
        return Swap(self._pipeline, generation, transition, put_in_force)
