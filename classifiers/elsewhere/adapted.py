"""Makes a torch module of the user's own a `Classifier`: one logit for each image, a last linear layer."""

import torch
from torch import Tensor, nn

from classifiers.networks.small import Classifier
from pipeline.content.elsewhere import made_by
from pipeline.errors import UserError


class Adapted(Classifier):
    """A module from images [n, 3, H, W] in [-1, 1] to logits [n], [n, 1], or [n, 2] of the labels 0 and 1.

    Of two logits z the difference z_1 - z_0 counts, whose sigmoid is the softmax of label 1. A last layer of
    two outputs, or without a bias, is replaced by one of one output, with a bias, that gives this difference.
    The module computes in float32, whatever the precision around it.

    Args:
        module: changed in place.
        last: the name of its last linear layer, as `named_modules` has it: its output is the logit, and
            nothing follows it. None: there is none, so that no finish can change it.
        where: the parameter that names the layer, for errors.
    """

    def __init__(self, module: nn.Module, last: str | None, where: str) -> None:
        super().__init__()
        self.module, self.name_of_last = module.float(), last
        if last is not None:
            _give_one_output(self.module, last, where)

    @property
    def last(self) -> nn.Linear:
        """The last layer, from features [n, D] to [n, 1]; `UserError` if none is named."""
        if self.name_of_last is None:
            raise UserError(
                "A finish needs the last linear layer of the classifier from elsewhere: name it as `last` in "
                "load_classifier.definitions, and run the stage load_classifier again."
            )
        layer = self.module.get_submodule(self.name_of_last)
        assert isinstance(layer, nn.Linear)
        return layer

    def features(self, images: Tensor) -> Tensor:
        """Compute the input of the last layer, [n, D], for images [n, 3, H, W] in [-1, 1]."""
        inputs: list[Tensor] = []
        handle = self.last.register_forward_pre_hook(lambda layer, given: inputs.append(given[0]))
        try:
            self.outputs(images)
        finally:
            handle.remove()
        if len(inputs) != 1:
            raise UserError(
                f"The layer {self.name_of_last} is called {len(inputs)} times for a batch, not once."
            )
        return inputs[0]

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits [n] of images [n, 3, H, W] in [-1, 1]."""
        outputs: Tensor = self.outputs(images)
        if outputs.dim() == 1:
            return outputs
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs[:, 1] - outputs[:, 0]

    def outputs(self, images: Tensor) -> Tensor:
        """Compute what the module itself gives for images [n, 3, H, W]."""
        # Contiguous: many modules flatten with `view`, which does not take images in channels_last.
        with torch.autocast(images.device.type, enabled=False):
            outputs: Tensor = self.module(images.float().contiguous())
        return outputs


def module_of(factory: str, where: str) -> nn.Module:
    """Call the user's function, with the same random numbers each time.

    Args:
        factory: the function, as module:function.
        where: the parameter that names it, for errors.

    Returns:
        Its module.

    Raises:
        UserError: there is no such function, or it fails or returns something else.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = made_by(factory, where)
    if not isinstance(made, nn.Module):
        raise UserError(f"{where}: {factory} gives {type(made).__name__}, not a torch module.")
    return made


def _give_one_output(module: nn.Module, name: str, where: str) -> None:
    """Replace a module's last layer of two outputs, or without a bias, by one of one output with a bias."""
    layer = dict(module.named_modules()).get(name)
    if not isinstance(layer, nn.Linear) or layer.out_features not in (1, 2):
        linear = [
            known
            for known, of in module.named_modules()
            if isinstance(of, nn.Linear) and of.out_features in (1, 2)
        ]
        raise UserError(
            f"{where}: {name!r} is no linear layer of one or two outputs; these are: "
            f"{', '.join(linear) or 'none'}."
        )
    if layer.out_features == 1 and layer.bias is not None:
        return
    one = nn.utils.skip_init(nn.Linear, layer.in_features, 1)
    with torch.no_grad():
        weight, bias = layer.weight, layer.bias
        bias = torch.zeros(layer.out_features) if bias is None else bias
        one.weight.copy_(weight[-1:] - weight[:1] if layer.out_features == 2 else weight)
        one.bias.copy_(bias[-1:] - bias[:1] if layer.out_features == 2 else bias)
    parent, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(parent), attribute, one)
