class Digest(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  def forward(self: __torch__.Digest,
    x: Tensor) -> Tensor:
    places = torch.arange(1, torch.add(torch.size(x, 1), 1), dtype=None, layout=None, device=None, pin_memory=None)
    return torch.sum(torch.mul(x, places), [1], True, dtype=None)
