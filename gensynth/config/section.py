"""What every section of an experiment's YAML shares."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gensynth.system.disk import at_home


def no_truth_value(value: Any) -> Any:
    """For numbers in a Literal: Python takes True for 1, and so does pydantic there."""
    if isinstance(value, bool):
        raise ValueError("a number is needed")
    return value


Place = Annotated[str, AfterValidator(at_home)]  # a path, or the name of something
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1, lt=2**63)]
NotNegative = Annotated[int, Field(ge=0, lt=2**63)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Zoom = Annotated[float, Field(ge=1, le=100)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
