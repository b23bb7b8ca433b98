from pydantic import BaseModel

from server.schemas.fields import Email
from server.schemas.users import Secret


class LoginCreate(BaseModel):
    email: Email
    password: Secret
