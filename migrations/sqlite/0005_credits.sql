-- What free and prepaid credits pay for. Their use is in `spending`, under the scope 'credit' and the pot's name.
ALTER TABLE attempts ADD COLUMN credit TEXT;  -- the pot that it draws on in place of money, ACCOUNT/PERIOD/KIND/UNIT; NULL: money
