"""Coursework: exercises made from the library's own functions, marked with the project's own properties.

An exercise is a name, a task, and one or more functions of the library. Its stub is those functions without their
bodies (`stubs`); its marks are the properties of `tests/properties`, pointed at a student's file (`implementation`,
`plugin`, `grading`). Where students write properties instead, theirs are tried on the library and on a bank of classic
mistakes (`mistakes`).
"""
