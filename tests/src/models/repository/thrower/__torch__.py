class Thrower(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  def forward(self: __torch__.Thrower,
    x: Tensor) -> Tensor:
    first = float(torch.select(torch.flatten(x), 0, 0))
    if torch.lt(first, 0.):
      text = torch.format("the first element is {}", first)
      for line in range(200):
        text = torch.add(text, torch.format("\nline {} of a text that nobody wants to read whole", line))
      ops.prim.RaiseException(text, "builtins.ValueError")
    else:
      pass
    return torch.clone(x)
