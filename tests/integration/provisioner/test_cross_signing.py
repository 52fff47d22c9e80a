"""The bot's identity: made once, its recovery key stored before anything can happen, one that is there already used."""

from __future__ import annotations

from tests.stack.chat import ChatClient

from .outcome import assert_whole
from .release import Release


async def test_an_account_that_has_cross_signing_already(release: Release) -> None:
    elsewhere = await ChatClient.log_in(release.bot)
    await elsewhere.log_out()
    line = await release.run_until_told("level=error step=cross_sign")
    assert "give their recovery key as bot.recoveryKey, or reset" in line
    await release.start()
    await release.until(lambda: "the instance is given its settings" in release.log.read_text(), "the instance")
    assert not release.ready.exists()
    await release.kill()
    release.credentials["recovery-key"] = "EsTx oNe1 oNLY"
    await release.run_until_told("the recovery key does not fit")
    release.credentials["recovery-key"] = release.bot.recovery_key
    await release.run_until_ready()
    assert await release.signed()
    assert "recovery-key" not in release.secret
    assert not [name for name in release.gate.asked if name.endswith("generate_recovery_key")]
    assert release.bot.recovery_key not in release.log.read_text()


async def test_no_identity_is_made_whose_key_cannot_be_stored(release: Release) -> None:
    """As if the right to write went away just then."""
    release.cluster.fail(method="PATCH", path="dryRun", status=403, times=None)
    line = await release.run_until_told("level=error step=cross_sign")
    assert "give the provisioner's service account get and patch on it" in line
    assert not [name for name in release.gate.asked if name.endswith("generate_recovery_key")]
    release.cluster.faults.clear()
    await release.run_until_ready()
    await assert_whole(release)


async def test_a_recovery_key_is_stored_however_long_it_takes(release: Release) -> None:
    refusals = release.cluster.fail(method="PATCH", path="nothing", status=503, times=3)

    def refuse_from_now_on(write: str) -> bool:
        if write.endswith("generate_recovery_key"):
            refusals.path = "secrets"
        return False

    release.gate.kill_after = refuse_from_now_on
    await release.start()
    await release.until(lambda: refusals.struck, "a refusal")
    release.process.terminate()
    assert await release.process.wait() == 0
    assert refusals.struck == 3
    await release.run_until_ready()
    await assert_whole(release)
