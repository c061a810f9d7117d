from __future__ import annotations

import pytest
import torch

from dynadfq.quant import packing
from dynadfq.quant.packing import pack, unpack


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1000])
def test_unpacking_undoes_packing_in_the_fewest_bytes(bits: int, count: int) -> None:
    codes = torch.randint(0, 2**bits, (count,), generator=torch.Generator().manual_seed(bits))
    packed = pack(codes, bits)
    assert packed.dtype == torch.uint8 and len(packed) == -(-count * bits // 8)
    assert torch.equal(unpack(packed, bits, count), codes.to(torch.uint8))


def test_the_stream_by_hand() -> None:
    assert pack(torch.tensor([[3, 0xA], [0xF, 1]]), 4).tolist() == [0xA3, 0x1F]
    # 3-bit codes 1, 2, 3, lowest bit first: 100 010 11 | 0
    assert pack(torch.tensor([1, 2, 3]), 3).tolist() == [0b11010001, 0]
    assert pack(torch.tensor([200.0]), 8).tolist() == [200]


@pytest.mark.parametrize("bits", [3, 4, 5])
def test_chunks_leave_no_gap(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = torch.randint(0, 2**bits, (100,), generator=torch.Generator().manual_seed(0))
    whole = pack(codes, bits)
    monkeypatch.setattr(packing, "CHUNK", 16)
    assert torch.equal(pack(codes, bits), whole)
    assert torch.equal(unpack(whole, bits, 100), codes.to(torch.uint8))


@pytest.mark.parametrize("code", [-1, 8])
def test_codes_that_do_not_fit_are_refused(code: int) -> None:
    with pytest.raises(ArithmeticError, match=r"codes .* do not fit 3 bits"):
        pack(torch.tensor([0, code]), 3)
