class Product(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  def forward(self: __torch__.Product,
    x: Tensor) -> Tensor:
    return torch.mm(x, x)
