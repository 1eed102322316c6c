"""What people and panels do with the gateway now and then: steer, look, give feedback.

One file per subject; each declares its routes with the role they need. `routing` turns the whole
table into an application, an OpenAPI description and the matrix that tests walk through.
"""
