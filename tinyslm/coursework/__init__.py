"""Coursework: exercises on functions of the library, graded by the property tests of the project.

An exercise has a name, a task, and one or more functions of the library. Its stub contains these functions without
their bodies (`stubs`). Its marks are the property tests of `tests/properties`, run on the functions of a student's file
(`implementation`, `plugin`, `grading`). In some exercises students write the property tests; these are run on the
library and on a collection of classic mistakes (`mistakes`).
"""
