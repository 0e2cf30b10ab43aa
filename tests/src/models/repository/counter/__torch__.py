class Counter(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  count : int
  total : float
  def forward(self: __torch__.Counter,
    x: Tensor) -> Tuple[Tensor, Tensor]:
    self.count = torch.add(self.count, 1)
    self.total = torch.add(self.total, float(torch.sum(x)))
    return (torch.add(x, self.count), torch.new_full(x, [1], self.total))
  def reset_states(self: __torch__.Counter) -> NoneType:
    self.count = 0
    self.total = 0.
    return None
