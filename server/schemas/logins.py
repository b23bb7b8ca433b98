from pydantic import BaseModel

from server.schemas.users import Email, Secret


class LoginCreate(BaseModel):
    email: Email
    password: Secret
