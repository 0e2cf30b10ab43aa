class Case6243(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  def forward(self: __torch__.Case6243,
    x: Tensor,
    rounds: Tensor) -> Tensor:
    rows = torch.flatten(x, 0, 1)
    total = torch.mean(rounds)
    for i in range(torch.size(rounds, 1)):
      scaled = torch.div(rows, torch.add(i, 1))
      total = torch.add(total, torch.mean(torch.mm(torch.t(scaled), rows)))
    return torch.add_(torch.repeat(x, [1, 4, 1]), torch.mul(total, 0.0001))
