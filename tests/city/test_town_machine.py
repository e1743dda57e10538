"""Whatever people do in whatever order, every module's invariants hold after every block."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from city.modules.governance import Choice
from city.sdk import DAY_MS, TREASURY
from city.testing import Account, Town
from consensus.signing import sha256

WHO = st.integers(0, 4)
AMOUNT = st.integers(1, 60)


class BusyTown(RuleBasedStateMachine):
    """A town with fees; every block checks the invariants, and the model knows the supply and each one's votes."""

    @initialize()
    def founded(self) -> None:
        """Three persons, two strangers, all with a few coins."""
        self.town = Town(fees=True)
        self.people: list[Account] = [self.town.person(coins=200) for _ in range(3)]
        self.people += [self.town.stranger(coins=100) for _ in range(2)]
        self.town.govern("governance.set_param", module="governance", name="deposit", value=10)
        self.supply = 800
        self.proposals: dict[int, dict[int, Choice]] = {}

    def does(self, who: int, message: str, **arguments: object) -> str:
        """The code of what came of it; "inadmissible" if the sender can't pay."""
        account = self.people[who]
        fee = 4 if account.balance >= 4 else 0
        made = self.town.message(message, **arguments)
        transaction = account.transaction(made, fee=fee)
        if not fee and who > 2:
            assert self.town.inadmissible(transaction) == "tx.fee_too_low"
            return "inadmissible"
        (result,) = self.town.block(transaction)
        return result.code

    @rule(who=WHO, to=WHO, amount=AMOUNT)
    def sends(self, who: int, to: int, amount: int) -> None:
        """Coins go, or are refused."""
        assert self.does(who, "coin.send", to=self.people[to], amount=amount) in ("", "coin.short", "inadmissible")

    @rule(who=WHO, key=WHO, amount=AMOUNT, hours=st.integers(1, 48))
    def opens_a_voucher(self, who: int, key: int, amount: int, hours: int) -> None:
        """Coins are set aside, for a key that may have coins of its own."""
        self.does(
            who,
            "coin.open_voucher",
            key_address=self.people[key],
            amount=amount,
            expires_ms=self.town.time_ms + 1_000 + hours * 3_600_000,
        )

    @rule(amount=AMOUNT)
    def mints(self, amount: int) -> None:
        """The treasury gets new coins."""
        self.town.govern("coin.mint", to=TREASURY, amount=amount)
        self.supply += amount

    @rule(amount=AMOUNT)
    def burns(self, amount: int) -> None:
        """The treasury loses coins."""
        if self.town.tries_to_govern("coin.burn", amount=amount) == "":
            self.supply -= amount

    @rule(who=WHO, refuses=st.booleans())
    def proposes(self, who: int, refuses: bool) -> None:
        """To mint, and perhaps to burn more than there is."""
        mint = self.town.message("coin.mint", to=TREASURY, amount=1)
        burn = self.town.message("coin.burn", amount=10**9)
        messages = (mint, burn) if refuses else ()
        if self.does(who, "governance.propose", title="t", body_hash=sha256(b""), messages=messages) == "":
            self.proposals[len(self.proposals) + 1] = {}

    @precondition(lambda self: self.proposals)
    @rule(who=WHO, which=st.integers(0, 10), choice=st.sampled_from([Choice.YES, Choice.NO, Choice.ABSTAIN]))
    def votes(self, who: int, which: int, choice: Choice) -> None:
        """The last vote of each counts."""
        number = sorted(self.proposals)[which % len(self.proposals)]
        if self.does(who, "governance.vote", proposal=number, choice=choice) == "":
            self.proposals[number][who] = choice
        cast = list(self.proposals[number].values())
        assert self.town.query("governance/tally", proposal=number) == {
            "yes": cast.count(Choice.YES),
            "no": cast.count(Choice.NO),
            "abstain": cast.count(Choice.ABSTAIN),
            "veto": 0,
        }

    @rule(hours=st.integers(1, 100))
    def time_passes(self, hours: int) -> None:
        """Vouchers expire, ballots close."""
        self.town.passes(hours=hours)

    def teardown(self) -> None:
        """In the end everything is closed and every coin is there."""
        if hasattr(self, "town"):
            self.town.passes(ms=10 * DAY_MS)
            assert self.town.query("coin/total") == self.supply
            assert self.town.app.next_due_ms(self.town.state) is None
            assert self.town.faults == []
            for number in self.proposals:
                assert self.town.query("governance/proposal", proposal=number)["status"] != "voting"


TestBusyTown = BusyTown.TestCase
TestBusyTown.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
