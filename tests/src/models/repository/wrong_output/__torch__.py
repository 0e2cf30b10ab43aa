class WrongOutput(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  def forward(self: __torch__.WrongOutput,
    x: Tensor) -> Tensor:
    return torch.clone(torch.slice(x, 0, 1))
