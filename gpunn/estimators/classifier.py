"""`MLPClassifier`, with scikit-learn's interface."""

from collections.abc import Sequence
from typing import Any, ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call

from gpunn.estimators.base import Perceptron
from gpunn.estimators.labels import Labels
from gpunn.estimators.parameters import CONSTRAINTS, trains_in_steps


@final
class MLPClassifier(ClassifierMixin, Perceptron):
    """Multi-layer perceptron classifier, a drop-in replacement for `sklearn.neural_network.MLPClassifier`.

    `y` (n,) are labels of any kind, or (n, k) zeros and ones for multilabel problems with k classes. The outputs are
    softmax with the cross-entropy; one sigmoid for two classes, and k sigmoids for (n, k), with the binary
    cross-entropy. With the same `random_state`, scikit-learn trains the same network in as many epochs: equal up to
    rounding with engine="plain", and closely in float32, except for Adam's steps with gradients near 0. Unlike
    scikit-learn's, losses of saturated outputs aren't clipped, so training may stop at another epoch.

    Parameters
    ----------
    hidden_layer_sizes : array-like of int, or int, default (100,)
        Number of neurons of each hidden layer; () for no hidden layer.
    activation : {"identity", "logistic", "tanh", "relu"}, default "relu"
        Activation function of the hidden layers.
    solver : {"sgd", "adam"}, default "adam"
        SGD, with momentum if `momentum` is above 0, or Adam. "lbfgs" is not supported: use scikit-learn.
    alpha : float, default 1e-4
        L2 penalty; a batch's is alpha / 2 times the sum of the squared weights, divided by the batch size.
    batch_size : int or "auto", default "auto"
        Batch size; "auto" is min(200, n).
    learning_rate : {"constant", "invscaling", "adaptive"}, default "constant"
        Schedule of "sgd": constant `learning_rate_init`; learning_rate_init / (t + 1)^power_t in an epoch after t
        examples; or divided by 5 whenever training stalls.
    learning_rate_init, power_t : float, default 1e-3, 0.5
        See `learning_rate`; Adam uses the first one too.
    max_iter : int, default 200
        Maximum number of epochs.
    shuffle : bool, default True
        Whether to shuffle the examples in each epoch.
    random_state : int, RandomState or None, default None
        Seed of the initial network, the shuffling and the held-out examples, drawn as in scikit-learn.
    tol, n_iter_no_change : float, default 1e-4; int or inf, default 10
        Training stalls if loss or score hasn't improved by `tol` for more than `n_iter_no_change` epochs.
    verbose : bool or int, default False
        Whether to print one line an epoch.
    warm_start : bool, default False
        Whether `fit` resumes from the network of the previous call.
    momentum, nesterovs_momentum : float, default 0.9; bool, default True
        Momentum of "sgd", at least 0 and below 1, and whether to use Nesterov's.
    early_stopping : bool, default False
        Whether to stop training, and choose the network to keep, by the score on held-out examples.
    validation_fraction : float, default 0.1
        Fraction of the examples to hold out; stratified if there are two classes.
    beta_1, beta_2, epsilon : float, default 0.9, 0.999, 1e-8
        Parameters of "adam".
    max_fun : int, default 15000
        Parameter of "lbfgs", unused.
    device : str, default "auto"
        Device to train on: "cpu", "cuda", "cuda:N", or "auto", the one that is estimated to do `max_iter` epochs
        first. Predictions need no GPU.
    engine : {"auto", "plain", "fused", "epoch"}, default "auto"
        Implementation: "plain" trains in the precision of X, with the same steps as scikit-learn; the others in
        float32. "auto" is "plain" if an epoch is little work, otherwise the fastest that supports the settings, in
        float32.

    Attributes
    ----------
    classes_ : array (n_classes,)
        The labels, sorted.
    coefs_, intercepts_ : list of arrays
        Weights (n_in, n_out) and biases (n_out,) of each layer; float32, or with "plain" the dtype of X.
    loss : str
        "log_loss", the cross-entropy.
    loss_, loss_curve_, best_loss_ : float, list of float, float or None
        Loss with the L2 penalty: of the last epoch, of every epoch, and the lowest (None with early stopping).
    validation_scores_, best_validation_score_ : list of float, float; both None without early stopping
        Accuracies on the held-out examples.
    n_iter_, t_ : int
        Epochs of the last `fit`, and examples seen since the network was drawn.
    n_features_in_, n_layers_, n_outputs_, out_activation_, feature_names_in_
        As in scikit-learn; the last one if X has column names.
    device_, engine_ : str
        Device and engine of the last `fit`.
    """

    loss: ClassVar[str] = "log_loss"
    _parameter_constraints: ClassVar[dict[str, Any]] = CONSTRAINTS

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        device: str = "auto",
        engine: str = "auto",
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.device = device
        self.engine = engine

    classes_: NDArray[Any]
    _labels: Labels

    @available_if(trains_in_steps)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train for one more epoch on these examples; return the estimator.

        `X`, `y`, `sample_weight` and errors are those of `fit`. `classes` (n_classes,) are all labels that will ever
        occur; required in the first call, also with `y` (n, k), and optional later. Parameters changed since the last
        call take effect.
        """
        return self._fit(X, y, sample_weight, incremental=True, classes=classes)

    def predict(self, X: Any) -> Any:
        """Return the label of each example, (n,), or (n, k) zeros and ones; `X` as in `fit`."""
        found = self._outputs(X)
        return self._labels.decode(found)

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return the probability of each class, (n, n_classes), floats in the order of `classes_`; `X` as in `fit`."""
        found = self._outputs(X)
        return found if found.shape[1] > 1 else np.hstack([1 - found, found])

    def predict_log_proba(self, X: Any) -> NDArray[Any]:
        """Return the logarithms of `predict_proba`; `X` as in `fit`."""
        found = self.predict_proba(X)
        with np.errstate(divide="ignore"):  # probabilities may round to 0
            logarithms: NDArray[Any] = np.log(found, out=found)
        return logarithms

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    _numeric_targets: ClassVar[bool] = False

    def _encoded(self, y: NDArray[Any], *, goes_on: bool, incremental: bool, classes: Any) -> tuple[NDArray[Any], int]:
        if incremental and _check_partial_fit_first_call(self, classes):
            self._labels = Labels.of_first_part(y, self.classes_)
        if goes_on or incremental:
            self._labels.check(y, complete=self.warm_start)
        else:
            self._labels = Labels(y)
        self.classes_ = self._labels.classes
        return self._labels.encode(y), self._labels.n_outputs

    def _output_function(self) -> str:
        return self._labels.output

    def _score_of(self, outputs: NDArray[Any], targets: NDArray[Any], weights: NDArray[Any] | None) -> float:
        return self._labels.accuracy(outputs, targets, weights)
