"""What could be wrong in `node/` and `city/`."""

from __future__ import annotations

from tests.mutants.defect import Defect

SIGNER = ("tests/node/test_signer.py",)
VOICE = ("tests/node/test_voice.py",)
WAL = ("tests/node/test_wal.py",)
ROOM = ("tests/node/test_mempool_room.py", "tests/node/test_mempool.py")
POOL = ("tests/node/test_mempool.py",)
TOWN = ("tests/city/test_execution.py", "tests/city/test_app.py")
GOVERNANCE = ("tests/city/test_governance.py",)

DISK = (
    Defect(
        "a validator contradicts itself", "node/signer.py", "if place <= last.place:", "if place < last.place:", SIGNER
    ),
    Defect(
        "a signature leaves before it is on the disk",
        "node/signer.py",
        "            self._file.sync()\n        except OSError:",
        "        except OSError:",
        SIGNER,
    ),
    Defect(
        "a vote leaves before the log is on the disk",
        "node/voice.py",
        "            self._wal.sync()",
        "            pass",
        ("tests/node/test_voice.py", "tests/node/test_consensus_driver.py"),
    ),
    Defect(
        "a vote leaves before the signer's memory is on the disk",
        "node/voice.py",
        "                    self._signer.sync()\n            except",
        "                    pass\n            except",
        VOICE,
    ),
    Defect(
        "the signer's memory is on the disk before the log",
        "node/voice.py",
        "        height.own_votes[effect.kind, effect.round] = vote\n",
        "        height.own_votes[effect.kind, effect.round] = vote\n        self._signer.sync()\n",
        VOICE,
    ),
    Defect(
        "a vote of our key that another machine made is taken for ours",
        "node/voice.py",
        "        if contradicts or not (said == message or self._signer.explains(message)):",
        "        if False:",
        VOICE,
    ),
    Defect(
        "a signature of ours in a commit is never held against an old memory",
        "node/voice.py",
        "            if is_later or (since_ms is None and not self._signer.explains(own)):",
        "            if False:",
        VOICE,
    ),
    Defect(
        "a changed record of the log is read as it is",
        "node/wal.py",
        "if zlib.crc32(memoryview(data)[at + 8 : end], salt) != checksum:",
        "if False:",
        WAL,
    ),
    Defect(
        "damage to the log passes for a torn tail",
        "node/wal.py",
        "        if found is not None:\n            raise WalDamaged(",
        "        if False:\n            raise WalDamaged(",
        WAL,
    ),
    Defect(
        "a log whose fsync failed goes on",
        "node/wal.py",
        "        except OSError:\n            self._broken = True\n            raise",
        "        except OSError:\n            raise",
        WAL,
    ),
    Defect(
        "a plan changes the nodes of the committed tree",
        "node/state_tree.py",
        "        node = node.copy()\n        for nibble, following",
        "        for nibble, following",
        ("tests/node/test_state_tree.py", "tests/node/test_state.py", "tests/node/test_store.py"),
    ),
    Defect(
        "a mismatch of what was executed goes through",
        "node/execution.py",
        "if claimed.id == computed.id and claimed.module_roots == computed.module_roots:",
        "if True:",
        ("tests/node/test_execution.py",),
    ),
)

MEMPOOL = (
    Defect(
        "nonces one too far ahead are parked",
        "node/mempool_room.py",
        "if nonce > next_nonce + NONCE_AHEAD_MAX:",
        "if nonce > next_nonce + NONCE_AHEAD_MAX + 1:",
        ROOM,
    ),
    Defect(
        "a used nonce waits again",
        "node/mempool_room.py",
        "        if nonce < next_nonce:\n            raise NoRoom",
        "        if nonce < 0:\n            raise NoRoom",
        ROOM,
    ),
    Defect(
        "a replacement pays no more",
        "node/mempool_room.py",
        "    if fee < least:",
        "    if fee < former.body.fee:",
        ROOM,
    ),
    Defect(
        "a forged transaction waits",
        "node/mempool.py",
        "if identity in forged:",
        "if False:",
        POOL,
    ),
    Defect(
        "bodies of a block go unverified",
        "node/mempool_bodies.py",
        "            if not holds:\n                text",
        "            if False:\n                text",
        POOL,
    ),
    Defect(
        "what has expired still waits",
        "node/mempool_room.py",
        "self._expiry[0][0] < time_ms:",
        "self._expiry[0][0] < time_ms - 1:",
        ROOM,
    ),
)

CITY = (
    Defect(
        "a nonce can be used again",
        "city/execution.py",
        "self._register.nonces[terms.sender] = terms.next_nonce + 1",
        "self._register.nonces[terms.sender] = terms.next_nonce",
        TOWN,
    ),
    Defect(
        "a nonce can be left out",
        "city/admission.py",
        "    if nonce > next_nonce:\n        raise Inadmissible(NONCE_GAP",
        "    if False:\n        raise Inadmissible(NONCE_GAP",
        TOWN,
    ),
    Defect(
        "a transaction for another chain is executed",
        "city/admission.py",
        "if body.chain_id != moment.chain_id:",
        "if False:",
        TOWN,
    ),
    Defect(
        "what is refused keeps its effects",
        "city/sdk/runtime.py",
        "        except Refused as refusal:\n            self.roll_back(mark)",
        "        except Refused as refusal:",
        TOWN,
    ),
    Defect(
        "anybody has the authority of governance",
        "city/sdk/runtime.py",
        "if handler.mark.authority is not None and handler.mark.authority != context.authority:",
        "if False:",
        GOVERNANCE,
    ),
    Defect(
        "half of the votes pass a proposal",
        "city/modules/governance.py",
        "if tally.yes * PPM > rules.threshold * decided else",
        "if tally.yes * PPM >= rules.threshold * decided else",
        GOVERNANCE,
    ),
    Defect(
        "who came after the opening votes",
        "city/modules/governance.py",
        "if person.number >= asked.next_number:",
        "if person.number > asked.next_number:",
        GOVERNANCE,
    ),
    Defect(
        "a changed vote counts twice",
        "city/modules/governance.py",
        "        counts[before] -= 1",
        "        pass",
        GOVERNANCE,
    ),
    Defect(
        "an account pays one coin more than it has",
        "city/modules/coin.py",
        "        if has < amount:\n",
        "        if has < amount - 1:\n",
        ("tests/city/test_coin.py",),
    ),
)

DEFECTS = (*DISK, *MEMPOOL, *CITY)
