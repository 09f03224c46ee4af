"""A family of samplers from outside of the package: the whole way in one leap, `steps` times."""

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from gensynth.samplers.contract import Step, normal
from gensynth.samplers.registry import SAMPLERS, Entry


class LeapScheduler(SchedulerMixin, ConfigMixin):
    @register_to_config
    def __init__(self, length: float = 1.0):
        pass


class LeapSampler:
    def __init__(self, scheduler, meaning):
        self.scheduler, self.meaning = scheduler, meaning

    def start(self, shape, generators):
        return normal(shape, generators, self.meaning.device)

    def times(self, steps):
        return [0.0] * steps

    def noise_level(self, time):
        return 1 - time / self.meaning.time_scale

    def steps_range(self, positions):
        return 1, 9

    def adapted(self, ask):
        return ask

    def walk(self, predict, sample, steps, conditions, generators):
        start, time = sample, sample.new_zeros(len(sample))
        for index in range(steps):
            sample = start + self.scheduler.config.length * predict(sample, time, conditions)
            yield Step(index + 1, steps, sample, sample.clone)


SAMPLERS["LeapScheduler"] = Entry({"velocity": {}}, LeapScheduler, LeapSampler)
