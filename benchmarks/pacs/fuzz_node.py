"""Does a node survive damaged images and damaged protocol data units?

    python benchmarks/pacs/fuzz_node.py --files 5000 --pdus 500

A node runs as a process of its own. It is sent radiographs with random changes: bytes changed, cut out, doubled, and
elements with other lengths, inside a C-STORE that is itself right; then whole conversations whose bytes are changed,
cut, or replaced by noise. The node must answer every C-STORE, or end the association, within five seconds, must go on
to accept whole images, must judge or give up everything that it accepted, and must not grow without a limit. Prints the
answers, the longest wait, the memory before and after, and the reasons of dead images.
"""

import argparse
import collections
import contextlib
import io
import random
import socket
import sys
import tempfile
import time
from pathlib import Path

from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from soak_node import Archive, NodeProcess, make_radiographs, wait_until_delivered

from pneumoscope.pacs.queue import DEAD, Queue

LIMIT = 5.0  # seconds


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Bytes with one to four changes, half of them in the header."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        if not changed:
            break
        end = len(changed) if chance.random() < 0.5 else min(len(changed), 900)
        place, kind = chance.randrange(end), chance.randrange(5)
        if kind == 0:
            changed[place] = chance.randrange(256)
        elif kind == 1:
            changed[place : place + 4] = chance.choice((b"\xff" * 4, b"\0" * 4, b"\xff\xff\0\0", chance.randbytes(4)))
        elif kind == 2:
            del changed[place : place + chance.randint(1, 64)]
        elif kind == 3:
            changed[place:place] = changed[place : place + chance.randint(1, 64)]
        else:
            del changed[place:]
    return bytes(changed) or b"\0"  # of nothing, pynetdicom sends the promise of a data set only


def send_files(port: int, number: int, chance: random.Random) -> tuple[collections.Counter[str], float]:
    """Send changed data sets; returns the answers, and the longest wait for one in seconds."""
    data_sets = []
    for dataset in make_radiographs(24):
        data_sets.append((str(dataset.SOPInstanceUID), encode(dataset, is_implicit_vr=False, is_little_endian=True)))
    answers: collections.Counter[str] = collections.Counter()
    longest, association = 0.0, None
    for _ in range(number):
        if association is None or not association.is_established:
            association = connect(port)
        uid, data = chance.choice(data_sets)
        begin = time.monotonic()
        answers[store_bytes(association, uid, mutate(data, chance))] += 1
        longest = max(longest, time.monotonic() - begin)
    association.release()
    return answers, longest


def connect(port: int) -> object:
    entity = AE("FUZZER")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 4 * LIMIT
    entity.add_requested_context(ComputedRadiographyImageStorage, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", port, ae_title="PNEUMOSCOPE")
    if not association.is_established:
        raise SystemExit("the node takes no association any more")
    return association


def store_bytes(association: object, uid: str, data: bytes) -> str:
    """A C-STORE of bytes that need not be a data set."""
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = ComputedRadiographyImageStorage, uid
    request.DataSet = io.BytesIO(data)
    context = association.accepted_contexts[0].context_id
    association._reactor_checkpoint.clear()
    try:
        association.dimse.send_msg(request, context)
        _, answer = association.dimse.get_msg(block=True)
    finally:
        association._reactor_checkpoint.set()
    return f"{answer.Status:04X}" if answer is not None and answer.Status is not None else "association ended"


def record_conversation(port: int) -> list[bytes]:
    """The protocol data units that a sender writes in one whole conversation."""
    sent: list[bytes] = []
    entity = AE("FUZZER")
    entity.add_requested_context(ComputedRadiographyImageStorage, ExplicitVRLittleEndian)
    association = entity.associate(
        "127.0.0.1",
        port,
        ae_title="PNEUMOSCOPE",
        evt_handlers=[(evt.EVT_DATA_SENT, lambda event: sent.append(event.data))],
    )
    association.send_c_store(make_radiographs(1)[0])
    association.release()
    return sent


def send_pdus(port: int, number: int, chance: random.Random) -> tuple[collections.Counter[str], float]:
    """Send changed conversations; returns how they ended, and the longest wait for an end in seconds."""
    whole = record_conversation(port)
    ends: collections.Counter[str] = collections.Counter()
    longest = 0.0
    for _ in range(number):
        units = list(whole)
        place = chance.randrange(len(units))
        units[place] = (
            mutate(units[place], chance) if chance.random() < 0.8 else chance.randbytes(chance.randint(1, 2000))
        )
        begin = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.settimeout(LIMIT)
            try:
                for unit in units:
                    connection.sendall(unit)
                connection.shutdown(socket.SHUT_WR)  # whatever the node still waits for will not come
                while connection.recv(65_536):
                    pass
                ends["closed"] += 1
            except TimeoutError:
                ends["still open after 5 s"] += 1
            except OSError:
                ends["reset"] += 1
        longest = max(longest, time.monotonic() - begin)
    return ends, longest


def megabytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--pdus", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        archive = Archive(folder / "archive")
        archive.start()
        stack.callback(archive.stop)
        node = NodeProcess(folder / "queue", f"ARCHIVE@127.0.0.1:{archive.port}")
        node.start()
        before = megabytes(node.pid)
        answers, longest = send_files(node.port, arguments.files, chance)
        print(f"{arguments.files} changed images: {dict(answers)}, longest wait {longest:.2f} s")
        middle = megabytes(node.pid)
        ends, longest_end = send_pdus(node.port, arguments.pdus, chance)
        print(f"{arguments.pdus} changed conversations: {dict(ends)}, longest wait {longest_end:.2f} s")
        association = connect(node.port)
        status = association.send_c_store(make_radiographs(1)[0]).Status
        association.release()
        print(f"a whole image afterwards: {status:04X}")
        wait_until_delivered(node.queue)
        print(
            f"megabytes at the start {before:.0f}, after the images {middle:.0f}, at the end {megabytes(node.pid):.0f}"
        )
        node.stop()
        looking = Queue(node.queue, "", exclusive=False)
        reasons = collections.Counter(image.reason for image in looking.images(DEAD))
        looking.close()
        for reason, count in reasons.most_common():
            print(f"dead {count}: {reason}")
    bad = (
        longest > LIMIT or longest_end > LIMIT or status or any("error of this program" in reason for reason in reasons)
    )
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
