class LadderTransport(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  def forward(self: __torch__.LadderTransport,
    x: Tensor) -> Tensor:
    return torch.clone(torch.slice(torch.flatten(x, 1), 1, 0, 1000))
