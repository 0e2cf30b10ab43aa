class Strings(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  def forward(self: __torch__.Strings,
    text: List[str]) -> List[str]:
    upper = annotate(List[str], [])
    for one in text:
      _0 = torch.append(upper, torch.upper(one))
    return upper
